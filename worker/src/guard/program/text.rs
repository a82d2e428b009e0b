//! Programs that read, sort and edit files.

use super::{PLAIN, Program, Style, stays_here};
use crate::guard::command::Command;

const WRITES: &str = "writes a file";

pub(super) const PROGRAMS: &[Program] = &[
    Program {
        names: &[
            "ls",
            "cat",
            "head",
            "tail",
            "grep",
            "egrep",
            "fgrep",
            "zgrep",
            "zcat",
            "wc",
            "cut",
            "tr",
            "diff",
            "cmp",
            "echo",
            "printf",
            "uptime",
            "whoami",
            "id",
            "uname",
            "df",
            "du",
            "free",
            "ps",
            "top",
            "vmstat",
            "iostat",
            "mpstat",
            "sar",
            "netstat",
            "ss",
            "lsof",
            "dig",
            "nslookup",
            "host",
            "ping",
            "ping6",
            "traceroute",
            "tracepath",
            "mtr",
            "stat",
            "pwd",
            "which",
            "whereis",
            "type",
            "readlink",
            "realpath",
            "basename",
            "dirname",
            "sha256sum",
            "sha1sum",
            "md5sum",
            "cksum",
            "true",
            "false",
            "seq",
            "sleep",
            "test",
            "[",
            "tac",
            "rev",
            "nl",
            "column",
            "comm",
            "join",
            "fold",
            "fmt",
            "paste",
            "getent",
            "nproc",
            "lscpu",
            "lsblk",
            "lspci",
            "lsmod",
            "last",
            "w",
            "who",
            "groups",
            "printenv",
            "expr",
            "bc",
            "od",
            "hexdump",
            "strings",
            "numfmt",
            "tree",
            "pgrep",
            "pidof",
            "pstree",
            "arch",
            "tty",
            "locale",
            "cal",
            "envsubst",
            "base64",
            "base32",
            "jq",
            "htop",
            "findmnt",
            "blkid",
            "nvidia-smi",
        ],
        harmless: &[""],
        destroys: &[("lsof -D", WRITES), ("lsof +D", WRITES)],
        check: reader,
        bare: true,
        ..PLAIN
    },
    Program {
        names: &["rg"],
        values: &["-e,--regexp", "-f,--file", "-g,--glob", "-t,--type", "-m,--max-count"],
        harmless: &[""],
        destroys: &[("--pre", "runs a program"), ("--hostname-bin", "runs a program")],
        bare: true,
        ..PLAIN
    },
    Program {
        names: &["ag", "ack"],
        harmless: &[""],
        destroys: &[("--pager", "runs a program"), ("--ackrc", "takes its settings from a file")],
        bare: true,
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["sort", "uniq", "shuf", "split"],
        harmless: &[""],
        destroys: &[
            ("-o", WRITES),
            ("--output", WRITES),
            ("--compress-program", "runs a program"),
            ("--filter", "runs a program"),
        ],
        check: |c| {
            let writes = c.program == "split" || (c.program == "uniq" && c.words.len() > 1);
            writes.then(|| WRITES.to_owned())
        },
        values: &["-k,--key", "-t,--field-separator", "-n", "-S"],
        abbreviates: true,
        bare: true,
        ..PLAIN
    },
    Program {
        names: &["find"],
        style: Style::Words,
        harmless: &[""],
        destroys: &[
            ("-delete", "deletes files"),
            ("-fprint", WRITES),
            ("-fprint0", WRITES),
            ("-fprintf", WRITES),
            ("-fls", WRITES),
        ],
        bare: true,
        ..PLAIN
    },
    Program {
        names: &["sed", "gsed"],
        values: &["-e,--expression"],
        switches: &["-n,--quiet", "-E,--regexp-extended", "-r", "--silent", "-u", "-z", "-s"],
        harmless: &[""],
        destroys: &[
            ("-i", "overwrites files"),
            ("--in-place", "overwrites files"),
            ("-f", "runs a file that the guard does not read"),
            ("--file", "runs a file that the guard does not read"),
        ],
        check: sed,
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["awk", "gawk", "mawk", "nawk"],
        values: &["-F,--field-separator", "-v,--assign"],
        harmless: &[""],
        destroys: &[
            ("-f", "runs a file that the guard does not read"),
            ("--file", "runs a file that the guard does not read"),
            ("-i", "runs a file that the guard does not read"),
            ("--include", "runs a file that the guard does not read"),
            ("-l", "loads a library"),
            ("--load", "loads a library"),
            ("-E", "runs a file that the guard does not read"),
            ("--exec", "runs a file that the guard does not read"),
            ("-e", "has a program that the guard does not read"),
            ("--source", "has a program that the guard does not read"),
            ("-d", WRITES),
            ("-p", WRITES),
            ("-o", WRITES),
            ("-D", WRITES),
            ("--dump-variables", WRITES),
            ("--profile", WRITES),
            ("--pretty-print", WRITES),
            ("--debug", WRITES),
        ],
        check: awk,
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["yq"],
        harmless: &[""],
        destroys: &[
            ("-i", "overwrites files"),
            ("--inplace", "overwrites files"),
            ("-s", WRITES),
            ("--split-exp", WRITES),
            ("--split-exp-file", WRITES),
            ("--in-place", "overwrites files"),
        ],
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["tar", "gtar"],
        harmless: &[""],
        check: |c| {
            let first = c.arguments.first().map_or("", String::as_str);
            let lists = matches!(
                first,
                "tf" | "-tf"
                    | "tvf"
                    | "-tvf"
                    | "tzf"
                    | "-tzf"
                    | "tzvf"
                    | "-tzvf"
                    | "-ztvf"
                    | "ztvf"
                    | "--list"
            );
            let plain = c.arguments.iter().skip(1).all(|a| !a.starts_with('-'));
            (!(lists && plain)).then(|| "may overwrite files, or run programs".to_owned())
        },
        ..PLAIN
    },
    Program {
        names: &["unzip"],
        harmless: &[""],
        check: |c| {
            (!matches!(c.arguments.first().map(String::as_str), Some("-l" | "-v" | "-t" | "-Z")))
                .then(|| "may overwrite files".to_owned())
        },
        ..PLAIN
    },
    Program {
        // Makes new folders, and fails on what is there: nothing is lost, wherever it is.
        names: &["mkdir"],
        harmless: &[""],
        ..PLAIN
    },
    Program {
        names: &["touch"],
        harmless: &[""],
        check: |c| {
            (!c.words.iter().all(|w| stays_here(w.text)))
                .then(|| "works outside its directory".to_owned())
        },
        ..PLAIN
    },
    Program {
        names: &["tee"],
        harmless: &[""],
        check: |c| {
            (!c.words.iter().all(|w| w.text == "/dev/null")).then(|| "overwrites files".to_owned())
        },
        bare: true,
        ..PLAIN
    },
];

/// `jq`, `top` and a few others can do one thing besides reading.
fn reader(command: &Command<'_>) -> Option<String> {
    let flag = |names: &[&str]| names.iter().any(|n| command.has_flag(n));
    let danger = match command.program {
        "ss" => flag(&["K", "kill", "kil", "ki", "D", "diag"]),
        "tree" => flag(&["o", "output"]),
        "printf" => command.has_flag("v"),
        "fmt" | "column" | "cat" => false,
        "lsof" => flag(&["D"]),
        "ping" | "ping6" => flag(&["f"]),
        "blkid" => flag(&["g", "garbage-collect"]),
        "nvidia-smi" => command
            .flags
            .iter()
            .any(|f| !matches!(f.name, "L" | "q" | "query-gpu" | "format" | "l" | "i")),
        "sar" => flag(&["o"]),
        "last" | "w" | "who" => false,
        "dig" => command.has_flag("f"),
        "diff" => flag(&["output"]),
        _ => false,
    };
    danger.then(|| format!("`{}` does more than read here", command.program))
}

/// A script of addresses with `p`, `q`, `d` or `=`, or one substitution without `w` or `e`.
fn sed(command: &Command<'_>) -> Option<String> {
    let given: Vec<&str> = command.values("expression").collect();
    let scripts = if given.is_empty() {
        command.words.first().map(|w| w.text).into_iter().collect()
    } else {
        given
    };
    let certain = command.words.iter().all(|w| w.certain);
    let safe = |script: &&str| is_print(script) || is_substitution(script);
    let readable = certain && !scripts.is_empty() && scripts.iter().all(safe);
    (!readable).then(|| "has a script that the guard does not read".to_owned())
}

fn is_print(script: &str) -> bool {
    let address = script.strip_suffix(['p', 'q', 'd', '=']).unwrap_or("x");
    if let Some(inner) = address.strip_prefix('/').and_then(|a| a.strip_suffix('/')) {
        return !inner.contains(['/', '\n', '\\']);
    }
    address.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '$'))
}

fn is_substitution(script: &str) -> bool {
    let Some(body) = script.strip_prefix('s') else { return false };
    let Some(mark) = body.chars().next().filter(|c| matches!(c, '/' | '|' | '#' | ',' | ':'))
    else {
        return false;
    };
    let parts: Vec<&str> = body[1..].split(mark).collect();
    let plain = |part: &str| !part.contains('\n') && !part.ends_with('\\');
    let flags = |part: &str| part.chars().all(|c| matches!(c, 'g' | 'p' | 'I' | 'i' | '0'..='9'));
    matches!(parts.as_slice(), [from, to, end] if plain(from) && plain(to) && flags(end))
}

/// A program that cannot start another, read another or write.
fn awk(command: &Command<'_>) -> Option<String> {
    let certain = command.words.iter().all(|w| w.certain);
    let safe = |text: &str| {
        !text.contains(['|', '>', '@', '\\', '`'])
            && !text.contains("system")
            && !text.contains("getline")
            && !text.contains("close")
    };
    let readable = certain && command.words.first().is_some_and(|w| safe(w.text));
    (!readable).then(|| "has a program that the guard does not read".to_owned())
}
