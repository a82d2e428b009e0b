//! How a source proves that it sent a body: an HMAC over it, or a token beside it.

use aof_shared::config::Instance;
use aof_shared::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::recipe::Recipe;
use crate::platform::Signed;

/// Signatures tried of one header: more than two are no rotation.
const MAX_SIGNATURES: usize = 4;
/// Digits of a Unix time in seconds.
const MAX_TIMESTAMP_DIGITS: usize = 12;

/// `source.signature` of an account, or its recipe's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    /// `hmac-sha256` or `token`.
    scheme: Scheme,
    /// The header that holds it, in lower case.
    pub(super) header: String,
    /// What stands before it there.
    #[serde(default)]
    prefix: String,
    /// How a signature is written.
    #[serde(default)]
    encoding: Encoding,
    /// What is signed, joined by dots. Only a list that has `body` in it proves the body.
    #[serde(default = "body_alone")]
    signed: Vec<Part>,
    /// The header that holds the delivery's id, where it is signed.
    #[serde(default)]
    id_header: Option<String>,
    /// The header that holds the time in Unix seconds, where it is signed.
    #[serde(default)]
    timestamp_header: Option<String>,
    /// How many seconds that time may be off.
    #[serde(default = "five_minutes")]
    tolerance_secs: u64,
    /// How the secret is written.
    #[serde(default)]
    secret: Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Scheme {
    #[serde(rename = "hmac-sha256")]
    Hmac,
    #[serde(rename = "token")]
    Token,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// Hexadecimal for a signature, the text itself for a secret.
    #[default]
    Plain,
    /// Base64; a secret may have `whsec_` before it.
    Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Id,
    Timestamp,
    Body,
}

fn body_alone() -> Vec<Part> {
    vec![Part::Body]
}

fn five_minutes() -> u64 {
    300
}

impl Proof {
    /// An HMAC over the body, in hexadecimal.
    pub(super) fn hmac(header: &str, prefix: &str) -> Self {
        Self { scheme: Scheme::Hmac, ..Self::token(header, prefix) }
    }

    /// The secret itself.
    pub(super) fn token(header: &str, prefix: &str) -> Self {
        Self {
            scheme: Scheme::Token,
            header: header.to_owned(),
            prefix: prefix.to_owned(),
            encoding: Encoding::Plain,
            signed: body_alone(),
            id_header: None,
            timestamp_header: None,
            tolerance_secs: five_minutes(),
            secret: Encoding::Plain,
        }
    }

    /// The account's own, or its recipe's. `None` when the account's cannot be read: a source
    /// of which nobody knows how it proves itself proves nothing.
    pub(super) fn of(instance: &Instance, recipe: &Recipe) -> Option<Self> {
        let Some(own) = instance.settings.get("source").and_then(|s| s.get("signature")) else {
            return Some((recipe.proof)());
        };
        match serde_json::from_value::<Self>(own.clone()) {
            Ok(proof) if proof.covers_the_body() => {
                Some(Self { header: proof.header.to_ascii_lowercase(), ..proof })
            }
            Ok(_) => {
                tracing::error!(tenant.id = %instance.tenant, instance.name = %instance.name,
                    "`source.signature.signed` lacks `body`: what it signs proves nothing");
                None
            }
            Err(error) => {
                tracing::error!(tenant.id = %instance.tenant, instance.name = %instance.name,
                    %error, "`source.signature` cannot be read: nothing is accepted");
                None
            }
        }
    }

    fn covers_the_body(&self) -> bool {
        self.scheme == Scheme::Token || self.signed.contains(&Part::Body)
    }

    /// True when the holder of `secret` sent this.
    pub(super) fn holds(&self, signed: &Signed<'_>, secret: &Secret) -> bool {
        let Some(key) = self.key(secret) else { return false };
        let given = signed.headers.get(self.header.as_str()).map(|value| value.as_bytes());
        let Some(given) = given else { return false };
        match self.scheme {
            Scheme::Token => {
                let token = given.strip_prefix(self.prefix.as_bytes());
                token.is_some_and(|token| bool::from(token.ct_eq(&key)))
            }
            Scheme::Hmac => self.is_fresh(signed) && self.is_signed(signed, &key, given),
        }
    }

    /// The secret's bytes; none where it is empty or cannot be decoded.
    fn key(&self, secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        let key = match self.secret {
            Encoding::Plain => text.as_bytes().to_vec(),
            Encoding::Base64 => {
                STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?
            }
        };
        (!key.is_empty()).then_some(key)
    }

    /// A time that is signed must be within its tolerance.
    fn is_fresh(&self, signed: &Signed<'_>) -> bool {
        if !self.signed.contains(&Part::Timestamp) {
            return true;
        }
        let digits =
            |t: &&str| t.len() <= MAX_TIMESTAMP_DIGITS && t.bytes().all(|b| b.is_ascii_digit());
        let secs = self.part(signed, Part::Timestamp).and_then(|t| std::str::from_utf8(t).ok());
        let secs = secs.filter(digits).and_then(|t| t.parse::<u64>().ok());
        secs.is_some_and(|secs| (signed.now_ms / 1000).abs_diff(secs) <= self.tolerance_secs)
    }

    /// One of the signatures that the header holds is right: two stand there while a secret
    /// is changed.
    fn is_signed(&self, signed: &Signed<'_>, key: &[u8], given: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
        for (at, part) in self.signed.iter().enumerate() {
            let Some(bytes) = self.part(signed, *part) else { return false };
            if at > 0 {
                mac.update(b".");
            }
            mac.update(bytes);
        }
        let Ok(given) = std::str::from_utf8(given) else { return false };
        let commas = !self.prefix.contains(',');
        let split = |c: char| c.is_whitespace() || (commas && c == ',');
        let listed = given.split(split).filter(|s| !s.is_empty()).take(MAX_SIGNATURES);
        listed
            .filter_map(|s| self.decode(s.strip_prefix(self.prefix.as_str())?))
            .any(|signature| mac.clone().verify_slice(&signature).is_ok())
    }

    fn decode(&self, signature: &str) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Plain => hex::decode(signature).ok(),
            Encoding::Base64 => STANDARD.decode(signature).ok(),
        }
    }

    /// The bytes of a part; `None` where its header is missing.
    fn part<'a>(&self, signed: &Signed<'a>, part: Part) -> Option<&'a [u8]> {
        let header = match part {
            Part::Body => return Some(signed.body),
            Part::Id => self.id_header.as_deref()?,
            Part::Timestamp => self.timestamp_header.as_deref()?,
        };
        signed.headers.get(header).map(|value| value.as_bytes())
    }
}
