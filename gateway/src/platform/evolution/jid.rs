//! WhatsApp's own addresses: `15550002000@s.whatsapp.net`, `82334925746303@lid`,
//! `120363403554000000@g.us`. Pure.

use aof_shared::message::User;

/// The server of phone numbers.
const PHONE: &str = "s.whatsapp.net";

/// What an address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A person, by phone number or by an opaque id.
    Person,
    /// A group.
    Group,
    /// Neither: status updates, channels, broadcasts.
    Other,
}

/// What `jid` stands for.
pub(super) fn kind_of(jid: &str) -> Kind {
    match jid.split_once('@') {
        Some((_, PHONE | "c.us" | "lid")) => Kind::Person,
        Some((_, "g.us")) => Kind::Group,
        _ => Kind::Other,
    }
}

/// The address without the device (`:3`), and with today's server of phone numbers.
pub(super) fn plain(jid: &str) -> String {
    let Some((user, server)) = jid.split_once('@') else { return jid.to_owned() };
    let user = user.split(':').next().unwrap_or(user);
    let server = if server == "c.us" { PHONE } else { server };
    format!("{user}@{server}")
}

/// The phone number that the address is; `None` for all others.
pub(super) fn phone(jid: &str) -> Option<&str> {
    jid.strip_suffix(PHONE)?.strip_suffix('@')
}

/// The address to keep of several for one person or chat: the phone's, which people know.
pub(super) fn chosen(jids: &[String]) -> Option<&str> {
    let by_phone = jids.iter().find(|jid| phone(jid).is_some());
    by_phone.or(jids.first()).map(String::as_str)
}

/// The person whom all of `jids` address: by phone number where one is among them, known as
/// all of them.
pub(super) fn user(jids: &[String]) -> Option<User> {
    let jid = chosen(jids)?;
    let id = phone(jid).unwrap_or(jid);
    Some(User::new(id).known_as(jids.iter().cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_people_groups_or_neither() {
        let check = |jid: &str, expected: Kind| assert_eq!(kind_of(jid), expected, "{jid}");
        check("15550002000@s.whatsapp.net", Kind::Person);
        check("15550002000:3@s.whatsapp.net", Kind::Person);
        check("82334925746303@lid", Kind::Person);
        check("120363403554000000@g.us", Kind::Group);
        check("status@broadcast", Kind::Other);
        check("120363@newsletter", Kind::Other);
        check("", Kind::Other);
        check("15550002000", Kind::Other);
    }

    #[test]
    fn a_person_is_their_phone_number_and_known_by_every_address() {
        let check = |jids: &[&str], id: &str, aliases: &[&str]| {
            let jids: Vec<String> = jids.iter().map(|jid| plain(jid)).collect();
            let user = user(&jids).expect("somebody");
            assert_eq!(user.id, id);
            assert_eq!(user.aliases, aliases);
        };
        check(&["1555:7@s.whatsapp.net"], "1555", &["1555@s.whatsapp.net"]);
        check(&["82@lid", "1555@s.whatsapp.net"], "1555", &["82@lid", "1555@s.whatsapp.net"]);
        check(&["82@lid"], "82@lid", &[]);
        assert_eq!(user(&[]), None);
    }
}
