"""Signs interactions and says what Discord's own library for Python thinks of each.

Prints the public key, then one JSON object a line: name, headers, body, and the verdict.
"""

import contextlib
import json
import sys
import time

from discord_interactions import verify_key
from nacl.signing import SigningKey

KEY = SigningKey(bytes([7] * 32))
OTHER = SigningKey(bytes([8] * 32))
PUBLIC = KEY.verify_key.encode().hex()
now = str(int(time.time()))


def signed(key, at, body):
    return key.sign(at.encode() + body.encode()).signature.hex()


ping = '{"type":1,"id":"1","token":"t"}'
spaced = '{ "type" : 1 , "token":"\\u00e9 \U0001F980" }'
good = signed(KEY, now, ping)
cases = [
    ("a ping", good, now, ping),
    ("other white space and letters", signed(KEY, now, spaced), now, spaced),
    ("capital digits", good.upper(), now, ping),
    ("another body", good, now, spaced),
    ("another second", good, str(int(now) - 1), ping),
    ("another application", signed(OTHER, now, ping), now, ping),
    ("cut", good[:-2], now, ping),
    ("not hex", "zz" * 64, now, ping),
    ("no signature", "", now, ping),
    ("nothing signed", signed(KEY, "", ""), now, ping),
]
cases += [
    (f"bit {bit} of the signature", flipped.hex(), now, ping)
    for bit in range(0, 512, 37)
    for flipped in [bytes(b ^ (1 << bit % 8 if at == bit // 8 else 0) for at, b in enumerate(bytes.fromhex(good)))]
]
print(json.dumps({"public": PUBLIC}))
for name, signature, at, body in cases:
    headers = {"x-signature-ed25519": signature, "x-signature-timestamp": at}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it says why
            verdict = verify_key(body.encode(), signature, at, PUBLIC)
    except Exception:  # what the library cannot even read
        verdict = False
    print(json.dumps({"name": name, "headers": headers, "body": body, "verdict": bool(verdict)}))
