//! Replaces a flow's environment values with `***` wherever a tool prints them. Pure.

use aof_shared::config::FlowContext;

/// Shorter values (`true`, `eu-1`) would mask half of any text and hide nothing.
const MIN_SECRET_BYTES: usize = 6;
const MASKED: &str = "***";

/// Values that must not be shown, longest first, so that none is left in part.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    values: Vec<aof_shared::secret::Secret>,
}

impl Mask {
    /// Of the flow's `context.env`, `PATH` excepted, which is no secret.
    pub(crate) fn of(context: &FlowContext) -> Self {
        let mut values: Vec<_> = context
            .env
            .iter()
            .filter(|(name, value)| {
                name.as_str() != "PATH" && value.expose().len() >= MIN_SECRET_BYTES
            })
            .map(|(_, value)| value.clone())
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.expose().len()));
        Self { values }
    }

    /// `text` without any of the values.
    pub(crate) fn apply(&self, text: String) -> String {
        self.values.iter().fold(text, |text, value| {
            if text.contains(value.expose()) { text.replace(value.expose(), MASKED) } else { text }
        })
    }

    /// How far beyond a cut one must read so that no value is cut in two.
    pub(crate) fn longest_bytes(&self) -> usize {
        self.values.first().map_or(0, |value| value.expose().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof_shared::secret::Secret;
    use std::collections::BTreeMap;

    #[test]
    fn masks_whole_values_and_leaves_short_ones() {
        let env = [("A", "hunter22"), ("B", "hunter22-long"), ("C", "true"), ("PATH", "/usr/bin")];
        let env = env.map(|(name, value)| (name.to_owned(), Secret::new(value)));
        let mask = Mask::of(&FlowContext { env: BTreeMap::from(env), ..FlowContext::default() });
        let shown = mask.apply("hunter22-long hunter22 true /usr/bin".to_owned());
        assert_eq!(shown, "*** *** true /usr/bin");
        assert_eq!(mask.longest_bytes(), 13);
    }
}
