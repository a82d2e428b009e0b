//! A stretch of time in a query: `from` and `to`. Pure.

use aof_shared::clock::UnixMs;

use crate::problem::Problem;

/// Reads a point in time: RFC 3339, or milliseconds since the Unix epoch.
///
/// # Errors
/// 400 naming `field`.
pub(crate) fn at_ms(field: &'static str, text: Option<&str>) -> Result<Option<UnixMs>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let read = text.parse::<UnixMs>().ok().or_else(|| {
        let at = text.parse::<jiff::Timestamp>().ok()?;
        UnixMs::try_from(at.as_millisecond()).ok()
    });
    read.map(Some).ok_or_else(|| {
        let detail = "write a time as 2026-01-31T12:00:00Z, or as milliseconds since 1970";
        Problem::invalid_field(field, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_as_programs_write_them() {
        let check = |text: &str, expected: Option<u64>| {
            let read = at_ms("?from", Some(text)).ok().flatten();
            assert_eq!(read, expected, "{text}");
        };
        check("1705314600000", Some(1_705_314_600_000));
        check("2024-01-15T10:30:00Z", Some(1_705_314_600_000));
        check("2024-01-15T12:30:00+02:00", Some(1_705_314_600_000));
        check("yesterday", None);
        check("-5", None);
        assert_eq!(at_ms("?from", None).ok(), Some(None));
        assert!(at_ms("?from", Some("x")).is_err());
    }
}
