//! The provider `echo`: answers with the user's own text. No network and no key; for
//! trying flows (`model: echo:any`) and for load tests.

use crate::agent::stream::AnswerStream;
use crate::model::{Request, Said, estimate_tokens};

/// Its name in `model: echo:any`.
pub(crate) const PROVIDER: &str = "echo";

/// Streams and returns the user's text.
pub(crate) async fn answer(request: &Request, stream: &mut AnswerStream) -> Said {
    let text = request.user.clone();
    stream.push(&text).await;
    Said { tokens: 2 * estimate_tokens(&text), text, calls: Vec::new() }
}
