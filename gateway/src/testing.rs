//! Helpers of this crate's tests.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Slack's two signature headers over `body`.
pub(crate) fn sign(secret: &str, at_secs: u64, body: &[u8]) -> [(&'static str, String); 2] {
    let at = at_secs.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(&[b"v0:", at.as_bytes(), b":", body].concat());
    let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
    [("x-slack-signature", signature), ("x-slack-request-timestamp", at)]
}
