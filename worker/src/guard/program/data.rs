//! Databases and stores.

use super::{PLAIN, Program};
use crate::guard::command::Command;

pub(super) const PROGRAMS: &[Program] = &[
    Program {
        names: &["psql"],
        values: &[
            "-h,--host",
            "-p,--port",
            "-U,--username",
            "-d,--dbname",
            "-F,--field-separator",
            "-P,--pset",
        ],
        switches: &[
            "-t,--tuples-only",
            "-A,--no-align",
            "-x,--expanded",
            "-q,--quiet",
            "-X,--no-psqlrc",
            "-w,--no-password",
            "-H,--html",
            "-1,--single-transaction",
            "--csv",
            "-l,--list",
            "-V,--version",
            "-E,--echo-hidden",
            "-e,--echo-queries",
        ],
        later_values: &[],
        harmless: &[""],
        destroys: &[
            ("--file", "runs a file that the guard does not read"),
            ("-f", "runs a file that the guard does not read"),
            ("--output", "writes a file"),
            ("-o", "writes a file"),
            ("--log-file", "writes a file"),
            ("-L", "writes a file"),
            ("--set", "may set what runs"),
            ("--variable", "may set what runs"),
            ("-v", "may set what runs"),
        ],
        check: |command| sql(command, &["command", "c"], &["list"]),
        abbreviates: true,
        bare: false,
        ..PLAIN
    },
    Program {
        names: &["mysql", "mariadb"],
        values: &["-h,--host", "-P,--port", "-u,--user", "-D,--database", "-S,--socket"],
        switches: &[
            "-N,--skip-column-names",
            "-B,--batch",
            "-t,--table",
            "-s,--silent",
            "-v,--verbose",
            "-r,--raw",
            "-E,--vertical",
            "-C,--compress",
            "--version",
        ],
        harmless: &[""],
        destroys: &[
            ("--init-command", "runs more than it shows"),
            ("--pager", "runs a program"),
            ("--tee", "writes a file"),
            ("--defaults-file", "uses settings other than the flow's"),
            ("--defaults-extra-file", "uses settings other than the flow's"),
            ("--plugin-dir", "loads a program"),
            ("--local-infile", "reads files into tables"),
        ],
        check: |command| sql(command, &["execute", "e"], &[]),
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["redis-cli", "valkey-cli"],
        values: &["-h", "-p", "-a", "-n", "-u", "--user", "--pass", "-s"],
        switches: &[
            "-c",
            "--no-auth-warning",
            "--raw",
            "--no-raw",
            "--csv",
            "--json",
            "--tls",
            "-2",
            "-3",
        ],
        harmless: &[
            "get",
            "mget",
            "hget",
            "hgetall",
            "info",
            "ping",
            "ttl",
            "pttl",
            "type",
            "exists",
            "dbsize",
            "scan",
            "lrange",
            "llen",
            "smembers",
            "scard",
            "zrange",
            "zcard",
            "strlen",
            "memory usage",
            "memory stats",
            "client list",
            "slowlog get",
            "config get",
            "cluster info",
            "cluster nodes",
            "time",
            "lastsave",
            "role",
            "GET",
            "INFO",
            "PING",
            "TTL",
            "DBSIZE",
        ],
        destroys: &[
            ("--eval", "runs a script"),
            ("--pipe", "runs what it is sent"),
            ("-x", "takes what nobody here has seen"),
        ],
        ..PLAIN
    },
    Program {
        names: &["etcdctl"],
        values: &["--endpoints", "--cacert", "--cert", "--key", "--user", "-w", "--write-out"],
        harmless: &[
            "get",
            "member list",
            "endpoint health",
            "endpoint status",
            "alarm list",
            "version",
            "watch",
        ],
        destroys: &[
            ("watch -i", "runs commands it is sent"),
            ("watch --interactive", "runs commands it is sent"),
            ("watch ** --", "runs a program"),
        ],
        check: |command| {
            let runs = command.certain_word(0) == Some("watch") && command.rest.is_some();
            runs.then(|| "runs a program on every change".to_owned())
        },
        ..PLAIN
    },
    Program {
        names: &["vault"],
        harmless: &[
            "status",
            "read",
            "list",
            "kv get",
            "kv list",
            "version",
            "token lookup",
            "secrets list",
            "auth list",
            "policy list",
            "policy read",
        ],
        style: super::Style::Words,
        ..PLAIN
    },
    Program {
        names: &["consul"],
        harmless: &["members", "kv get", "catalog", "version", "info", "operator raft list-peers"],
        style: super::Style::Words,
        ..PLAIN
    },
    Program { names: &["pg_isready", "pg_controldata"], harmless: &[""], ..PLAIN },
    Program {
        names: &["promtool", "amtool"],
        harmless: &["query", "check", "alert query", "silence query", "config show"],
        ..PLAIN
    },
    Program {
        names: &["logcli"],
        harmless: &["query", "instant-query", "labels", "series", "stats"],
        ..PLAIN
    },
    Program {
        names: &["pg_dump", "mysqldump"],
        harmless: &[""],
        destroys: &[
            ("-f", "writes a file"),
            ("--file", "writes a file"),
            ("--result-file", "writes a file"),
            ("-r", "writes a file"),
            ("--tab", "writes files"),
        ],
        check: |command| {
            let deletes = command
                .flags
                .iter()
                .any(|f| f.name.starts_with("flush") || f.name.starts_with("delete"));
            deletes.then(|| "does more than dump".to_owned())
        },
        abbreviates: true,
        ..PLAIN
    },
];

/// Whether every statement that is given only reads; without one, the client reads commands
/// from where the guard cannot see them.
fn sql(command: &Command<'_>, flags: &[&str], lists: &[&str]) -> Option<String> {
    let mut given = flags
        .iter()
        .flat_map(|f| command.flags.iter().filter(move |g| names(g.name, g.long, f)))
        .peekable();
    if given.peek().is_none() {
        let lists = lists.iter().any(|l| command.has_flag(l));
        return (!lists)
            .then(|| "takes its statements from where the guard cannot see them".to_owned());
    }
    for flag in given {
        let Some(text) = flag.value else { return Some("has no statement".to_owned()) };
        if let Some(what) = statement(text) {
            return Some(what);
        }
    }
    None
}

fn names(name: &str, long: bool, wanted: &str) -> bool {
    name == wanted || (long && wanted.len() > 1 && wanted.starts_with(name))
}

/// What a text of SQL does besides reading. Comments are text too: servers run some of them.
fn statement(text: &str) -> Option<String> {
    const READS: &[&str] =
        &["select", "show", "explain", "with", "values", "table", "describe", "desc"];
    const HELP: &[&str] = &[
        "\\l",
        "\\dt",
        "\\d",
        "\\dn",
        "\\du",
        "\\di",
        "\\dv",
        "\\df",
        "\\conninfo",
        "\\l+",
        "\\dt+",
        "\\d+",
        "\\x",
    ];
    let trimmed = text.trim();
    if let Some(first) = trimmed.split_whitespace().next().filter(|w| w.starts_with('\\')) {
        let plain = HELP.contains(&first)
            && trimmed.matches('\\').count() == 1
            && !trimmed.contains(['|', '!', '`', ';']);
        return (!plain).then(|| format!("runs `{first}`"));
    }
    let Some(bare) = without_strings(trimmed) else {
        return Some("has SQL that the guard does not read".to_owned());
    };
    for part in bare.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let words: Vec<&str> = part
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|w| !w.is_empty())
            .collect();
        if !words.first().is_some_and(|w| READS.contains(w)) {
            return Some(format!("runs the SQL statement `{}`", words.first().unwrap_or(&"?")));
        }
        if let Some(word) = words.iter().find(|w| WRITES.contains(w)) {
            return Some(format!("has SQL with `{word}`"));
        }
        if let Some(function) = called(part).find(|f| !FUNCTIONS.contains(f)) {
            return Some(format!("calls the SQL function `{function}`"));
        }
    }
    None
}

const WRITES: &[&str] = &[
    "delete",
    "drop",
    "truncate",
    "update",
    "insert",
    "alter",
    "create",
    "grant",
    "revoke",
    "copy",
    "into",
    "call",
    "do",
    "merge",
    "replace",
    "rename",
    "vacuum",
    "reindex",
    "cluster",
    "refresh",
    "lock",
    "load",
    "handler",
    "set",
    "reset",
    "kill",
    "flush",
    "execute",
    "prepare",
    "outfile",
    "dumpfile",
    "shutdown",
    "import",
    "purge",
    "optimize",
    "repair",
    "system",
    "source",
    "tee",
    "pager",
    "edit",
    "delimiter",
    "connect",
];

/// Functions that read, and words that a bracket may follow.
const FUNCTIONS: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "now",
    "coalesce",
    "nullif",
    "round",
    "lower",
    "upper",
    "length",
    "to_char",
    "to_timestamp",
    "date",
    "date_trunc",
    "extract",
    "age",
    "version",
    "current_database",
    "current_schema",
    "pg_size_pretty",
    "pg_database_size",
    "pg_total_relation_size",
    "pg_relation_size",
    "pg_table_size",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_current_wal_lsn",
    "pg_wal_lsn_diff",
    "pg_last_xact_replay_timestamp",
    "pg_blocking_pids",
    "pg_postmaster_start_time",
    "pg_backend_pid",
    "in",
    "exists",
    "any",
    "all",
    "and",
    "or",
    "not",
    "as",
    "from",
    "where",
    "values",
    "on",
    "over",
    "filter",
    "by",
    "interval",
    "cast",
    "substring",
    "left",
    "right",
    "concat",
    "greatest",
    "least",
    "abs",
    "floor",
    "ceil",
    "array_agg",
    "string_agg",
    "json_agg",
    "row_number",
    "rank",
    "join",
    "union",
    "select",
    "distinct",
    "then",
    "else",
    "when",
    "case",
    "using",
    "having",
    "ifnull",
    "datediff",
    "date_sub",
    "date_add",
    "curdate",
    "database",
    "user",
    "format",
    "group_concat",
    "explain",
    "lateral",
    "decimal",
    "varchar",
    "numeric",
    "percentile_cont",
];

/// Words right in front of a bracket.
fn called(sql: &str) -> impl Iterator<Item = &str> {
    sql.match_indices('(').filter_map(|(at, _)| {
        let before = sql[..at].trim_end();
        let word = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        (!word.is_empty()).then_some(word)
    })
}

/// The text in lower case without what stands in single quotes. `None` when it has what
/// servers read differently: escapes, comments, dollar quotes, a call by quoted name.
fn without_strings(text: &str) -> Option<String> {
    let (mut bare, mut quote, mut last) = (String::with_capacity(text.len()), None, ' ');
    for c in text.chars() {
        match (quote, c) {
            (_, '\\' | '`' | '$') => return None,
            (None, '#') => return None,
            (None, '-') if last == '-' => return None,
            (None, '*') if last == '/' => return None,
            (None, '(') if bare.trim_end().ends_with('"') => return None,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        if quote != Some('\'') {
            bare.extend(c.to_lowercase());
        }
        last = c;
    }
    quote.is_none().then_some(bare)
}
