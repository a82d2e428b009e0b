//! Discord's signature: Ed25519 over the timestamp and the raw body.

use aof_shared::secret::Secret;
use ed25519_dalek::{Signature, VerifyingKey};

use super::super::Signed;
use crate::seen::Fingerprint;

const SIGNATURE: &str = "x-signature-ed25519";
const TIMESTAMP: &str = "x-signature-timestamp";
/// Digits of a Unix time in seconds; longer ones are not one.
const MAX_TIMESTAMP_DIGITS: usize = 12;

/// Checks the signature with the application's public key. A missing or unreadable header is
/// a bad signature. Strict: of one message and key there is one signature, and no weak key
/// verifies anything, so that the fingerprint names the request. Source: RFC 8032, 5.1.7.
pub(super) fn verify(signed: &Signed<'_>, key: &Secret, window_ms: u64) -> Option<Fingerprint> {
    let signature = signed.headers.get(SIGNATURE)?.as_bytes();
    let timestamp = signed.headers.get(TIMESTAMP)?.to_str().ok()?;
    if !is_fresh(timestamp, signed.now_ms, window_ms) {
        return None;
    }
    let mut given = [0_u8; Signature::BYTE_SIZE];
    hex::decode_to_slice(signature, &mut given).ok()?;
    let mut public = [0_u8; ed25519_dalek::PUBLIC_KEY_LENGTH];
    hex::decode_to_slice(key.expose(), &mut public).ok()?;
    let public = VerifyingKey::from_bytes(&public).ok()?;
    let message = [timestamp.as_bytes(), signed.body].concat();
    public.verify_strict(&message, &Signature::from_bytes(&given)).ok()?;
    given.first_chunk().copied()
}

/// Whole seconds are compared, as Discord signs whole seconds.
fn is_fresh(timestamp: &str, now_ms: u64, window_ms: u64) -> bool {
    let digits =
        timestamp.len() <= MAX_TIMESTAMP_DIGITS && timestamp.bytes().all(|b| b.is_ascii_digit());
    match timestamp.parse::<u64>() {
        Ok(secs) if digits => (now_ms / 1_000).abs_diff(secs) <= window_ms / 1_000,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    const AT: u64 = 1_700_000_000;
    const BODY: &[u8] = b"{\"type\":1}";

    fn pair() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn public(pair: &SigningKey) -> Secret {
        Secret::new(hex::encode(pair.verifying_key().as_bytes()))
    }

    fn sign(pair: &SigningKey, at: &str, body: &[u8]) -> String {
        hex::encode(pair.sign(&[at.as_bytes(), body].concat()).to_bytes())
    }

    fn passes(key: &Secret, headers: &[(&'static str, &str)], now_secs: u64) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        let signed =
            Signed { headers: &map, event: None, body: BODY, now_ms: now_secs * 1_000 + 999 };
        verify(&signed, key, 300_000).is_some()
    }

    #[test]
    fn only_the_right_signature_within_the_window_passes() {
        let (pair, at) = (pair(), AT.to_string());
        let key = public(&pair);
        let good = sign(&pair, &at, BODY);
        let both = [(SIGNATURE, good.as_str()), (TIMESTAMP, at.as_str())];
        for (now, expected) in
            [(AT, true), (AT + 300, true), (AT + 301, false), (AT - 300, true), (AT - 301, false)]
        {
            assert_eq!(passes(&key, &both, now), expected, "at {now}");
        }
        assert!(!passes(&key, &both[1..], AT), "no signature");
        assert!(!passes(&key, &both[..1], AT), "no timestamp");
        let other = SigningKey::from_bytes(&[8; 32]);
        for (what, signature) in [
            ("cut", &good[2..]),
            ("another body", &sign(&pair, &at, b"{}")),
            ("another time", &sign(&pair, "1700000001", BODY)),
            ("another key", &sign(&other, &at, BODY)),
            ("empty", ""),
            ("not hex", &"z".repeat(128)),
        ] {
            let headers = [(SIGNATURE, signature), (TIMESTAMP, at.as_str())];
            assert!(!passes(&key, &headers, AT), "{what}");
        }
        for odd in ["+1700000000", "1700000000.0", "", "-1", "99999999999999999999"] {
            let signature = sign(&pair, odd, BODY);
            assert!(!passes(&key, &[(SIGNATURE, &signature), (TIMESTAMP, odd)], AT), "{odd}");
        }
    }

    #[test]
    fn keys_that_are_none_or_weak_verify_nothing() {
        let at = AT.to_string();
        // The identity: with a zero signature it verifies everything that is not checked strictly.
        let weak = format!("01{}", "00".repeat(31));
        let zero = format!("01{}", "00".repeat(63));
        for key in ["", "zz", "00", &weak, &"ff".repeat(32)] {
            let headers = [(SIGNATURE, zero.as_str()), (TIMESTAMP, at.as_str())];
            assert!(!passes(&Secret::new(key), &headers, AT), "{key}");
        }
    }
}
