//! Looks through commands that run other commands: `sudo`, `env`, `sh -c`, `kubectl exec … --`.
//!
//! A wrapper's own arguments are read exactly. With one that is not known here, where the
//! inner command begins is a guess, and a guess is opaque.

use super::command::{Command, base_name};
use super::parse::{self, Token};
use super::program::{SHELLS, is_opaque};

/// What a command runs besides itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// Nothing.
    Nothing,
    /// These commands.
    Commands(Vec<Vec<String>>),
    /// This command, with arguments added that are not known before it runs.
    Open(Vec<String>),
    /// Something that cannot be read; why.
    Opaque(String),
}

/// A wrapper that ends in the inner command.
struct Prefix {
    names: &'static [&'static str],
    values: &'static [&'static str],
    switches: &'static [&'static str],
    /// Words between the flags and the inner command.
    skip: usize,
    then: Then,
}

/// How the inner command is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// As words.
    Words,
    /// As words, and it may be missing.
    MaybeNothing,
    /// As words, with more to come from elsewhere.
    Open,
    /// As text for a shell, cut into words.
    Text,
}

const PREFIXES: &[Prefix] = &[
    Prefix {
        names: &["sudo"],
        values: &["-u", "-g", "-p", "-T", "--user", "--group", "--prompt"],
        switches: &[
            "-n",
            "-E",
            "-H",
            "-k",
            "-S",
            "-A",
            "-P",
            "-b",
            "--non-interactive",
            "--preserve-env",
            "--set-home",
        ],
        skip: 0,
        then: Then::Words,
    },
    Prefix { names: &["doas"], values: &["-u"], switches: &["-n"], skip: 0, then: Then::Words },
    Prefix {
        names: &["env"],
        values: &["-u", "--unset"],
        switches: &["-i", "-", "-0", "--ignore-environment", "--null"],
        skip: 0,
        then: Then::MaybeNothing,
    },
    Prefix {
        names: &["timeout", "gtimeout"],
        values: &["-s", "-k", "--signal", "--kill-after"],
        switches: &["-f", "-p", "-v", "--foreground", "--preserve-status", "--verbose"],
        skip: 1,
        then: Then::Words,
    },
    Prefix {
        names: &["nice"],
        values: &["-n", "--adjustment"],
        switches: &[],
        skip: 0,
        then: Then::Words,
    },
    Prefix {
        names: &["ionice"],
        values: &["-c", "-n", "--class", "--classdata"],
        switches: &["-t", "--ignore"],
        skip: 0,
        then: Then::Words,
    },
    Prefix { names: &["nohup"], values: &[], switches: &[], skip: 0, then: Then::Words },
    Prefix {
        names: &["time"],
        values: &["-f", "--format"],
        switches: &["-p", "-v"],
        skip: 0,
        then: Then::Words,
    },
    Prefix {
        names: &["stdbuf"],
        values: &["-i", "-o", "-e", "--input", "--output", "--error"],
        switches: &[],
        skip: 0,
        then: Then::Words,
    },
    Prefix {
        names: &["setsid"],
        values: &[],
        switches: &["-c", "-f", "-w", "--ctty", "--fork", "--wait"],
        skip: 0,
        then: Then::Words,
    },
    Prefix {
        names: &["busybox", "toybox"],
        values: &[],
        switches: &[],
        skip: 0,
        then: Then::Words,
    },
    Prefix {
        names: &["command", "builtin"],
        values: &[],
        switches: &["-p"],
        skip: 0,
        then: Then::Words,
    },
    Prefix {
        names: &["watch"],
        values: &["-n", "--interval"],
        switches: &[
            "-d",
            "-t",
            "-g",
            "-e",
            "-c",
            "-b",
            "-p",
            "--differences",
            "--no-title",
            "--chgexit",
            "--errexit",
        ],
        skip: 0,
        then: Then::Text,
    },
    Prefix {
        names: &["xargs", "gxargs"],
        values: &[
            "-n",
            "-P",
            "-L",
            "-I",
            "-d",
            "-E",
            "-s",
            "--max-args",
            "--max-procs",
            "--delimiter",
        ],
        switches: &["-0", "-r", "-t", "-x", "--null", "--no-run-if-empty", "--verbose"],
        skip: 0,
        then: Then::Open,
    },
    Prefix {
        names: &["ssh"],
        values: &["-l", "-p", "-i"],
        switches: &["-q", "-n", "-T", "-t", "-4", "-6", "-C", "-v", "-a", "-x"],
        skip: 1,
        then: Then::Text,
    },
];

/// `docker exec`, behind that word.
const EXEC: Prefix = Prefix {
    names: &[],
    values: &["-u", "--user", "-w", "--workdir"],
    switches: &["-i", "-t", "-it", "-ti", "-d", "--interactive", "--tty", "--detach"],
    skip: 1,
    then: Then::Words,
};

/// Variables that change how something is shown or which account is asked, and never what runs.
const HARMLESS_VARIABLES: &[&str] = &[
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "CLICOLOR",
    "FORCE_COLOR",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_DEFAULT_OUTPUT",
    "TF_LOG",
    "TF_IN_AUTOMATION",
    "TF_INPUT",
    "DEBUG",
    "VERBOSE",
    "CLOUDSDK_CORE_PROJECT",
    "HELM_NAMESPACE",
    "HELM_DEBUG",
    "GOMAXPROCS",
    "CI",
];

/// A shell's own words that do nothing to anything outside it.
const SHELL_WORDS: &[&str] = &["cd", "true", "false", ":", "wait", "set", "exit"];

/// Whether this module looks through the program of this name.
pub(crate) fn is_wrapper(name: &str) -> bool {
    SHELLS.contains(&name) || name == "find" || PREFIXES.iter().any(|p| p.names.contains(&name))
}

/// Whether the program does nothing itself but run what is inside.
pub(crate) fn is_only_wrapper(name: &str) -> bool {
    name != "find" && is_wrapper(name)
}

/// What `argv` runs besides its own program.
pub(crate) fn look(argv: &[String]) -> Inside {
    let program = argv.first().map_or("", |p| base_name(p));
    let arguments = argv.get(1..).unwrap_or_default();
    if SHELLS.contains(&program) {
        return shell(arguments);
    }
    match program {
        "find" => find(arguments),
        "kubectl" | "oc" => exec_in_pod(argv),
        "docker" | "podman" | "nerdctl" => exec_in_container(argv),
        _ => match PREFIXES.iter().find(|p| p.names.contains(&program)) {
            Some(prefix) => prefix.look(arguments),
            None => Inside::Nothing,
        },
    }
}

impl Prefix {
    fn look(&self, arguments: &[String]) -> Inside {
        let program = self.names.first().unwrap_or(&"exec");
        let Some(start) = self.flags_end(arguments) else {
            return opaque(program, "has a flag that the guard does not know");
        };
        let mut inner = &arguments[start..];
        if matches!(*program, "env" | "sudo" | "doas") {
            while let Some((name, _)) = inner.first().and_then(|w| parse::assignment(w)) {
                if !is_harmless_variable(name) {
                    return Inside::Opaque(format!(
                        "`{program}` sets {name}, which may change what runs"
                    ));
                }
                inner = &inner[1..];
            }
        }
        if inner.len() < self.skip || inner[..self.skip].iter().any(|w| w.starts_with('-')) {
            return opaque(program, "lacks an argument");
        }
        inner = &inner[self.skip..];
        match self.then {
            Then::MaybeNothing if inner.is_empty() => Inside::Nothing,
            _ if inner.is_empty() => opaque(program, "is not told here what to run"),
            Then::Words | Then::MaybeNothing => Inside::Commands(vec![inner.to_vec()]),
            Then::Open => Inside::Open(inner.to_vec()),
            Then::Text => script(&inner.join(" ")),
        }
    }

    /// Where the flags end; `None` with one that is not known.
    fn flags_end(&self, arguments: &[String]) -> Option<usize> {
        let mut at = 0;
        while let Some(argument) = arguments.get(at) {
            let attached = || {
                let long = argument
                    .split_once('=')
                    .is_some_and(|(name, _)| name.len() > 2 && self.values.contains(&name));
                let short = argument.len() > 2
                    && argument.get(..2).is_some_and(|f| f != "--" && self.values.contains(&f));
                long || short
            };
            match argument.as_str() {
                "--" => return Some(at + 1),
                flag if self.switches.contains(&flag) => at += 1,
                flag if self.values.contains(&flag) => at += 2,
                word if !word.starts_with('-') || word == "-" => break,
                _ if attached() => at += 1,
                _ => return None,
            }
        }
        (at <= arguments.len()).then_some(at)
    }
}

fn opaque(program: &str, why: &str) -> Inside {
    Inside::Opaque(format!("`{program}` {why}"))
}

fn is_harmless_variable(name: &str) -> bool {
    HARMLESS_VARIABLES.contains(&name) || name.starts_with("LC_")
}

/// `sh -c text`, and nothing else of what a shell does.
fn shell(arguments: &[String]) -> Inside {
    const LETTERS: &str = "abcefhlmnuvx";
    let (mut at, mut has_text) = (0, false);
    while let Some(argument) = arguments.get(at) {
        match argument.as_str() {
            "--" => {
                at += 1;
                break;
            }
            "--norc" | "--noprofile" | "--posix" => at += 1,
            "-o" if matches!(
                arguments.get(at + 1).map(String::as_str),
                Some("pipefail" | "errexit" | "nounset")
            ) =>
            {
                at += 2
            }
            flag if flag.len() > 1 && flag.starts_with('-') => {
                if !flag[1..].chars().all(|c| LETTERS.contains(c)) {
                    return opaque("sh", "has a flag that the guard does not know");
                }
                has_text |= flag.contains('c');
                at += 1;
            }
            _ => break,
        }
    }
    match arguments.get(at) {
        Some(text) if has_text => script(text),
        _ => opaque("sh", "reads its commands from where the guard cannot see them"),
    }
}

/// Splits a shell's text into commands, when it is words, quotes and operators only.
fn script(text: &str) -> Inside {
    let tokens = match parse::lex(text) {
        Ok(tokens) => tokens,
        Err(error) => return Inside::Opaque(format!("a shell's text cannot be read: {error}")),
    };
    let (mut commands, mut current) = (Vec::new(), Vec::new());
    for token in tokens {
        match token {
            Token::Operator(_) => commands.push(std::mem::take(&mut current)),
            Token::HarmlessRedirect(_) => {}
            Token::Word { text, expands: true, .. } => {
                return Inside::Opaque(format!(
                    "`{text}` is something else once a shell has expanded it"
                ));
            }
            Token::Word { text, quoted, .. } => {
                let variable =
                    if quoted || !current.is_empty() { None } else { parse::assignment(&text) };
                match variable {
                    Some((name, _)) if is_harmless_variable(name) => {}
                    Some((name, _)) => {
                        return Inside::Opaque(format!(
                            "it sets {name}, which may change what runs"
                        ));
                    }
                    None => current.push(text),
                }
            }
        }
    }
    commands.push(current);
    let runs = |c: &Vec<String>| c.first().is_some_and(|p| !SHELL_WORDS.contains(&p.as_str()));
    Inside::Commands(commands.into_iter().filter(runs).collect())
}

/// `find … -exec command ;`.
fn find(arguments: &[String]) -> Inside {
    let (mut inner, mut at) = (Vec::new(), 0);
    while at < arguments.len() {
        if matches!(arguments[at].as_str(), "-exec" | "-execdir" | "-ok" | "-okdir") {
            let from = at + 1;
            let length = arguments[from..].iter().position(|w| w == ";" || w == "+");
            at = from + length.unwrap_or(arguments.len() - from);
            inner.push(arguments[from..at].to_vec());
        }
        at += 1;
    }
    match inner.len() {
        0 => Inside::Nothing,
        1 => Inside::Open(inner.swap_remove(0)),
        _ => opaque("find", "runs several commands on what it finds"),
    }
}

fn exec_in_pod(argv: &[String]) -> Inside {
    let command = Command::read(argv);
    if command.certain_word(0) != Some("exec") {
        return Inside::Nothing;
    }
    match command.rest {
        Some(inner) if !inner.is_empty() && command.words.iter().all(|w| w.certain) => {
            Inside::Commands(vec![inner.to_vec()])
        }
        _ => opaque("kubectl exec", "needs `--` in front of the command it runs"),
    }
}

fn exec_in_container(argv: &[String]) -> Inside {
    let command = Command::read(argv);
    let words = match (command.certain_word(0), command.certain_word(1)) {
        (Some("exec"), _) => 1,
        (Some("container"), Some("exec")) => 2,
        _ => return Inside::Nothing,
    };
    let verb = command.words[words - 1].text;
    let at = command.arguments.iter().position(|a| std::ptr::eq(a.as_str(), verb));
    EXEC.look(&command.arguments[at.map_or(0, |at| at + 1)..])
}

/// Whether names that are not known yet can do no harm behind this command.
pub(crate) fn may_be_open(inner: &[String]) -> bool {
    const READERS: &[&str] = &[
        "ls",
        "cat",
        "head",
        "tail",
        "wc",
        "stat",
        "du",
        "echo",
        "basename",
        "dirname",
        "md5sum",
        "sha1sum",
        "sha256sum",
        "grep",
        "egrep",
        "fgrep",
        "readlink",
        "realpath",
        "cut",
        "tr",
        "nl",
        "tac",
        "zcat",
        "zgrep",
    ];
    inner.first().is_some_and(|p| READERS.contains(&base_name(p)) && !is_opaque(p))
}
