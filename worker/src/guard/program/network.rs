//! Programs that speak to the network.

use super::{PLAIN, Program, Style, stays_here};
use crate::guard::command::{Command, Flag};

const WRITES: &str = "writes a file";

pub(super) const PROGRAMS: &[Program] = &[
    CURL,
    Program {
        names: &["wget"],
        values: &[
            "-T,--timeout",
            "-t,--tries",
            "-U,--user-agent",
            "--header",
            "-O,--output-document",
        ],
        switches: &["-q,--quiet", "-S,--server-response", "--spider", "-v", "-nv"],
        harmless: &[""],
        check: |c| {
            let shows = c.values("output-document").all(|v| v == "-")
                && c.has_flag("output-document")
                || c.has_flag("spider");
            let plain = c.flags.iter().all(|f| {
                matches!(
                    f.name,
                    "timeout"
                        | "tries"
                        | "user-agent"
                        | "header"
                        | "output-document"
                        | "quiet"
                        | "server-response"
                        | "spider"
                )
            });
            (!(shows && plain)).then(|| WRITES.to_owned())
        },
        ..PLAIN
    },
    Program {
        names: &["ip"],
        switches: &["-4", "-6", "-br", "-brief", "-j", "-json", "-s", "-o", "-c", "-d", "-p"],
        style: Style::Words,
        harmless: &[""],
        check: |c| {
            let alone = c.words.len() == 1
                && c.words[0].certain
                && matches!(
                    c.words[0].text,
                    "a" | "addr"
                        | "address"
                        | "r"
                        | "route"
                        | "link"
                        | "l"
                        | "neigh"
                        | "n"
                        | "rule"
                );
            let show =
                c.certain_word(1).is_some_and(|w| matches!(w, "show" | "get" | "ls" | "list"));
            (!(alone || show)).then(|| "may change the network".to_owned())
        },
        abbreviates: false,
        ..PLAIN
    },
    Program {
        names: &["openssl"],
        style: Style::Words,
        harmless: &["x509", "s_client", "version", "verify", "dgst", "crl", "ciphers"],
        destroys: &[
            ("-out", WRITES),
            ("-engine", "loads a library"),
            ("-provider", "loads a library"),
            ("-provider-path", "loads a library"),
            ("-config", "loads what a file names"),
            ("-keylogfile", WRITES),
            ("-sess_out", WRITES),
            ("-writerand", WRITES),
            ("-msgfile", WRITES),
            ("-CAcreateserial", WRITES),
        ],
        ..PLAIN
    },
];

/// Source of flags: `curl --help all`, 8.16.
const CURL: Program = Program {
    names: &["curl"],
    abbreviates: true,
    values: &[
        "-X,--request",
        "-H,--header",
        "-A,--user-agent",
        "-u,--user",
        "-m,--max-time",
        "--connect-timeout",
        "-b,--cookie",
        "-e,--referer",
        "-w,--write-out",
        "-r,--range",
        "-x,--proxy",
        "--resolve",
        "--cacert",
        "-E,--cert",
        "--key",
        "--retry",
        "--retry-delay",
        "--max-redirs",
        "-o,--output",
        "--url",
        "--oauth2-bearer",
        "--interface",
        "--limit-rate",
        "-y,--speed-time",
        "-Y,--speed-limit",
        "-d,--data",
        "-F,--form",
        "-T,--upload-file",
        "-K,--config",
        "-Q,--quote",
        "-c,--cookie-jar",
        "-D,--dump-header",
        "-t,--telnet-option",
        "-C,--continue-at",
        "-P,--ftp-port",
        "-U,--proxy-user",
        "-z,--time-cond",
        "--unix-socket",
        "--json",
        "--data-raw",
        "--data-binary",
        "--data-urlencode",
    ],
    switches: &[
        "-s,--silent",
        "-S,--show-error",
        "-L,--location",
        "-k,--insecure",
        "-v,--verbose",
        "-i,--include",
        "-I,--head",
        "-f,--fail",
        "-g,--globoff",
        "-G,--get",
        "-4,--ipv4",
        "-6,--ipv6",
        "-#,--progress-bar",
        "-O,--remote-name",
        "-J,--remote-header-name",
        "-N,--no-buffer",
        "-n,--netrc",
        "-q,--disable",
        "-a,--append",
        "-l,--list-only",
        "-R,--remote-time",
        "-j,--junk-session-cookies",
        "-h,--help",
        "-V,--version",
        "-Z,--parallel",
        "-0,--http1.0",
        "--compressed",
        "--http1.1",
        "--http2",
        "-p,--proxytunnel",
    ],
    harmless: &[""],
    destroys: &[
        ("--data", "sends data"),
        ("--data-raw", "sends data"),
        ("--data-binary", "sends data"),
        ("--data-urlencode", "sends data"),
        ("--data-ascii", "sends data"),
        ("--form", "sends data"),
        ("--form-string", "sends data"),
        ("--json", "sends data"),
        ("--upload-file", "uploads a file"),
        ("--quote", "sends commands to a server"),
        ("--prequote", "sends commands to a server"),
        ("--postquote", "sends commands to a server"),
        ("--append", "appends to a file there"),
        ("--mail-rcpt", "sends mail"),
        ("--mail-from", "sends mail"),
        ("--config", "takes its arguments from a file"),
        ("--telnet-option", "speaks telnet"),
        ("--remote-name", "writes a file whose name a server may choose"),
        ("--remote-name-all", "writes files"),
        ("--remote-header-name", "writes a file whose name a server chooses"),
        ("--output-dir", WRITES),
        ("--cookie-jar", WRITES),
        ("--trace", WRITES),
        ("--trace-ascii", WRITES),
        ("--stderr", WRITES),
        ("--hsts", WRITES),
        ("--alt-svc", WRITES),
        ("--etag-save", WRITES),
        ("--libcurl", WRITES),
        ("--create-dirs", WRITES),
        ("--engine", "loads a library"),
        ("--proto-default", "may speak what is no web protocol"),
        ("--unix-socket", "speaks to a local service"),
        ("--abstract-unix-socket", "speaks to a local service"),
        ("--variable", "takes what the guard does not see"),
        ("--expand-url", "takes what the guard does not see"),
    ],
    check: curl,
    ..PLAIN
};

fn curl(command: &Command<'_>) -> Option<String> {
    let reads = |method: &str| matches!(method, "GET" | "HEAD" | "OPTIONS");
    let request = |f: &&Flag<'_>| {
        f.name == "request" || (f.long && f.name.len() > 2 && "request".starts_with(f.name))
    };
    if let Some(flag) = command.flags.iter().filter(request).find(|f| !f.value.is_some_and(reads)) {
        return Some(format!("sends the method {}", flag.value.unwrap_or("?")));
    }
    let header = |v: &str| v.to_ascii_lowercase().contains("method-override") || v.starts_with('@');
    if command.values("header").any(header) {
        return Some("may send another method".to_owned());
    }
    let long = |f: &Flag<'_>, name: &str| {
        f.name == name || (f.long && f.name.len() > 1 && name.starts_with(f.name))
    };
    let output = |f: &&Flag<'_>| long(f, "output") || long(f, "dump-header");
    let here = |v: &str| matches!(v, "-" | "/dev/null") || stays_here(v);
    if command.flags.iter().filter(output).any(|f| !f.value.is_some_and(here)) {
        return Some(WRITES.to_owned());
    }
    if command.values("write-out").any(|v| v.contains("%output{") || v.starts_with('@')) {
        return Some(WRITES.to_owned());
    }
    let web = |w: &str| !w.contains("://") || w.starts_with("http://") || w.starts_with("https://");
    let addresses = command.words.iter().map(|w| w.text).chain(command.values("url"));
    addresses
        .into_iter()
        .find(|w| !web(w))
        .map(|w| format!("speaks to `{w}`, which is no web address"))
}
