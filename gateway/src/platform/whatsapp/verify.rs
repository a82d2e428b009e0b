//! Meta's signature: HMAC-SHA256 over the raw body. It covers no time, so Meta resends the
//! same one, and what a body carries is deduplicated by its own ids.

use aof_shared::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Signed;

const SIGNATURE: &str = "x-hub-signature-256";

/// Checks the signature. A missing or unreadable header is a bad signature. Source: K1.
pub(super) fn verify(signed: &Signed<'_>, secret: &Secret) -> bool {
    let Some(header) = signed.headers.get(SIGNATURE) else { return false };
    let Some(digits) = header.as_bytes().strip_prefix(b"sha256=") else { return false };
    let mut given = [0_u8; 32];
    if secret.expose().is_empty() || hex::decode_to_slice(digits, &mut given).is_err() {
        return false;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(signed.body);
    mac.verify_slice(&given).is_ok()
}

/// Compares two texts in time that depends on their lengths alone.
pub(super) fn is_same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}
