//! Splits a command line into words without a shell.
//!
//! What only a shell could carry out is an error that says so, since nothing here ever
//! starts one: a word that reaches the program is exactly a word that was written.

use super::{MAX_BYTES, MAX_WORDS};

/// Why a text is not one plain command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Nothing to run.
    #[error("there is no command in this text")]
    Empty,
    /// Over [`MAX_BYTES`].
    #[error("the command is longer than {MAX_BYTES} bytes; send a shorter one")]
    TooLong,
    /// Over [`MAX_WORDS`].
    #[error("the command has more than {MAX_WORDS} words; send a shorter one")]
    TooManyWords,
    /// `;`, `&&`, `||`, `|`, `&` or a line end.
    #[error("`{0}` joins commands, and there is no shell here; run one plain command at a time")]
    Operator(&'static str),
    /// `>`, `<`, `<<`, `<(`.
    #[error(
        "`{0}` redirects, and there is no shell here; run the plain command, its output is returned"
    )]
    Redirect(char),
    /// `$x`, `$(…)`, a backtick.
    #[error("`{0}` needs a shell to expand it; write the value itself, or put it in single quotes")]
    Expansion(char),
    /// `(`, `)`.
    #[error("`{0}` opens or closes a subshell; run one plain command, or quote it")]
    Subshell(char),
    /// A bare `*` or a `{a,b}`.
    #[error("`{0}` needs a shell to expand it; name what is meant, or quote it")]
    Glob(String),
    /// `~` at the start of a word.
    #[error("`~` needs a shell to expand it; write the whole path")]
    Tilde,
    /// `# …`.
    #[error("`#` starts a comment; leave it out, or quote it")]
    Comment,
    /// `NAME=value` in front of the program.
    #[error("`{0}=` sets a variable for one command; run it as `env {0}=… program …`")]
    Assignment(String),
    /// A quote without its partner, or a backslash at the end.
    #[error("a quote or backslash is not closed; close it and send the command again")]
    Unterminated,
    /// A control character, NUL included.
    #[error("the command has the control character {0:?}; take it out")]
    Control(char),
    /// A character that does not show, or a space, dash or quote that only looks like one.
    #[error("the command has {0:?} (U+{code:04X}), which looks like something else; type plain ASCII", code = u32::from(*.0))]
    LookAlike(char),
}

/// A piece of a command text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word, quotes taken away.
    Word {
        /// The word.
        text: String,
        /// Whether an unquoted glob, brace list or tilde stands in it.
        expands: bool,
        /// Whether any of it was quoted.
        quoted: bool,
    },
    /// What joins two commands.
    Operator(&'static str),
    /// `2>&1`, `>/dev/null` and the like, which change nothing.
    HarmlessRedirect(char),
}

/// Splits a command line, as typed or as a model wrote it, into the words of one command.
/// Quotes and backslashes work as in a shell; nothing is expanded.
///
/// # Errors
/// [`ParseError`] when the text is not one plain command: it says what is in the way and
/// what to send instead.
pub fn parse_command(text: &str) -> Result<Vec<String>, ParseError> {
    const LINE_END: Token = Token::Operator("line end");
    let tokens = lex(text)?;
    let first = tokens.iter().position(|t| *t != LINE_END).unwrap_or(tokens.len());
    let last = tokens.iter().rposition(|t| *t != LINE_END).map_or(first, |at| at + 1);
    let mut words = Vec::new();
    for token in tokens.into_iter().take(last).skip(first) {
        match token {
            Token::Word { text, expands: true, .. } if text.starts_with('~') => {
                return Err(ParseError::Tilde);
            }
            Token::Word { text, expands: true, .. } => return Err(ParseError::Glob(text)),
            Token::Word { text, quoted, .. } => {
                if let (true, false, Some((name, _))) =
                    (words.is_empty(), quoted, assignment(&text))
                {
                    return Err(ParseError::Assignment(name.to_owned()));
                }
                words.push(text);
            }
            Token::Operator(operator) => return Err(ParseError::Operator(operator)),
            Token::HarmlessRedirect(sign) => return Err(ParseError::Redirect(sign)),
        }
    }
    if words.is_empty() { Err(ParseError::Empty) } else { Ok(words) }
}

/// `NAME=value`, when `word` is one.
pub(crate) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    (starts && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((name, value))
}

/// Whether `c` shows as nothing, turns text around, or passes for ASCII punctuation.
pub(crate) fn looks_alike(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || (!c.is_ascii() && c.is_whitespace())
}

/// A dash or quote that editors and chats put in the place of the ASCII one.
pub(crate) fn typographic(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2018}'..='\u{201f}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}'
        | '\u{ff0d}' | '\u{ff02}' | '\u{ff07}' | '\u{ff1b}' | '\u{ff5c}' | '\u{ff06}' | '\u{ff04}')
}

/// Splits `text` as a shell would, up to where it would expand something.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, ParseError> {
    if text.len() > MAX_BYTES {
        return Err(ParseError::TooLong);
    }
    let mut lexer = Lexer { rest: text.chars().collect(), at: 0, tokens: Vec::new(), word: None };
    while let Some(c) = lexer.next() {
        lexer.take(c)?;
        if lexer.tokens.len() > MAX_WORDS {
            return Err(ParseError::TooManyWords);
        }
    }
    lexer.end_word();
    Ok(lexer.tokens)
}

#[derive(Default)]
struct Word {
    text: String,
    expands: bool,
    quoted: bool,
    braces: bool,
    assigns: bool,
    colon: bool,
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
    word: Option<Word>,
}

impl Lexer {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.get(self.at).copied();
        self.at += 1;
        c
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        if let Some(Word { text, expands, quoted, .. }) = self.word.take() {
            self.tokens.push(Token::Word { text, expands, quoted });
        }
    }

    fn operator(&mut self, operator: &'static str) {
        self.end_word();
        self.tokens.push(Token::Operator(operator));
    }

    /// Takes one unquoted character.
    fn take(&mut self, c: char) -> Result<(), ParseError> {
        match c {
            ' ' | '\t' => self.end_word(),
            '\n' => self.operator("line end"),
            '\'' => self.single_quoted()?,
            '"' => self.double_quoted()?,
            '\\' => self.escaped()?,
            ';' => self.operator(";"),
            '|' if self.eat('|') => self.operator("||"),
            '|' if self.eat('&') => self.operator("|&"),
            '|' => self.operator("|"),
            '&' if self.eat('&') => self.operator("&&"),
            '&' if self.eat('>') => {
                // bash redirects both outputs; dash ends the command and begins another
                self.operator("&");
                self.redirect('>')?;
            }
            '&' => self.operator("&"),
            '<' | '>' => self.redirect(c)?,
            '(' | ')' => return Err(ParseError::Subshell(c)),
            '`' => return Err(ParseError::Expansion(c)),
            '$' => self.dollar(|next| matches!(next, None | Some(' ' | '\t' | '\n')))?,
            '#' if self.word.is_none() => return Err(ParseError::Comment),
            c => self.plain(c)?,
        }
        Ok(())
    }

    fn plain(&mut self, c: char) -> Result<(), ParseError> {
        check(c)?;
        if typographic(c) {
            return Err(ParseError::LookAlike(c));
        }
        let first = self.word.is_none();
        let next_is_dot = self.peek() == Some('.');
        let word = self.word();
        match c {
            '=' => word.assigns = true,
            ':' => word.colon = true,
            '*' if !word.assigns => word.expands = true,
            '?' | '[' if !(word.assigns || word.colon || word.braces) => word.expands = true,
            '~' if first => word.expands = true,
            '{' => word.braces = true,
            ',' if word.braces && !word.assigns => word.expands = true,
            '.' if word.braces && next_is_dot && !word.text.ends_with('{') => word.expands = true,
            _ => {}
        }
        word.text.push(c);
        Ok(())
    }

    /// A `$` stands for itself where nothing follows that a shell could expand.
    fn dollar(&mut self, stands: fn(Option<char>) -> bool) -> Result<(), ParseError> {
        if !stands(self.peek()) {
            return Err(ParseError::Expansion('$'));
        }
        self.word().text.push('$');
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<(), ParseError> {
        self.word().quoted = true;
        loop {
            match self.next().ok_or(ParseError::Unterminated)? {
                '\'' => return Ok(()),
                c => {
                    check(c)?;
                    self.word().text.push(c);
                }
            }
        }
    }

    fn double_quoted(&mut self) -> Result<(), ParseError> {
        self.word().quoted = true;
        loop {
            match self.next().ok_or(ParseError::Unterminated)? {
                '"' => return Ok(()),
                '`' => return Err(ParseError::Expansion('`')),
                '$' => {
                    self.dollar(|next| matches!(next, Some(' ' | '"' | '\n' | '/' | '|' | ')')))?
                }
                '\\' => match self.next().ok_or(ParseError::Unterminated)? {
                    '\n' => {}
                    c @ ('$' | '`' | '"' | '\\') => self.word().text.push(c),
                    c => {
                        check(c)?;
                        self.word().text.extend(['\\', c]);
                    }
                },
                c => {
                    check(c)?;
                    self.word().text.push(c);
                }
            }
        }
    }

    fn escaped(&mut self) -> Result<(), ParseError> {
        match self.next().ok_or(ParseError::Unterminated)? {
            '\n' => {}
            c => {
                check(c)?;
                let word = self.word();
                word.quoted = true;
                word.text.push(c);
            }
        }
        Ok(())
    }

    /// After `<`, `>` or `&>`: only what loses or merges output is let through.
    fn redirect(&mut self, sign: char) -> Result<(), ParseError> {
        let numbered = |w: &Word| !w.quoted && w.text.chars().all(|c| c.is_ascii_digit());
        if self.word.as_ref().is_some_and(numbered) {
            self.word = None;
        }
        self.end_word();
        if sign == '>' {
            self.eat('>');
        }
        if self.eat('&') {
            let merges =
                sign == '>' && matches!(self.next(), Some('1' | '2')) && self.at_word_end();
            return self.harmless(merges, sign);
        }
        while self.eat(' ') {}
        let null = "/dev/null".chars().all(|c| self.eat(c)) && self.at_word_end();
        self.harmless(null, sign)
    }

    fn at_word_end(&self) -> bool {
        matches!(self.peek(), None | Some(' ' | '\t' | '\n' | ';' | '|' | '&'))
    }

    fn harmless(&mut self, yes: bool, sign: char) -> Result<(), ParseError> {
        if yes {
            self.tokens.push(Token::HarmlessRedirect(sign));
            return Ok(());
        }
        Err(ParseError::Redirect(sign))
    }
}

/// Refuses what no command needs, quoted or not.
fn check(c: char) -> Result<(), ParseError> {
    if c.is_control() && !matches!(c, '\n' | '\t') {
        return Err(ParseError::Control(c));
    }
    if looks_alike(c) { Err(ParseError::LookAlike(c)) } else { Ok(()) }
}
