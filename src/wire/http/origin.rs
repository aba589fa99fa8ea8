//! From where a browser may come: the checks of `Host` and `Origin` that stop DNS rebinding and foreign pages.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether the value of `Host` names this machine's loopback or is in `allowed`.
///
/// An entry without a port allows every port; `*` allows every host.
pub fn host_allowed(host: &str, allowed: &[String]) -> bool {
    let Some(name) = without_port(host) else {
        return false;
    };
    is_loopback(name)
        || allowed
            .iter()
            .any(|entry| entry == "*" || entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(name))
}

/// Whether the value of `Origin` is a loopback page or in `allowed`; a request without one comes from no browser.
///
/// `*` allows every origin, the opaque `null` too.
pub fn origin_allowed(origin: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.and_then(without_port).is_some_and(is_loopback)
        || allowed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin))
}

/// The page that a request comes from whose head is not there as a whole, or is refused, so that it can read why: the one
/// `Origin` among the whole lines at the start of `buf`, if it is allowed.
pub fn page_of<'b>(buf: &'b [u8], allowed: &[String]) -> Option<&'b str> {
    let lines = buf.split_inclusive(|byte| *byte == b'\n').map_while(|line| line.strip_suffix(b"\r\n"));
    let origins = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_at_checked(7)?;
        name.eq_ignore_ascii_case(b"origin:").then(|| value.trim_ascii())
    });
    let mut origins = origins.map(|value| std::str::from_utf8(value).ok());
    let (Some(Some(origin)), None) = (origins.next(), origins.next()) else { return None };
    let is_plain = origin.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain && origin_allowed(Some(origin), allowed)).then_some(origin)
}

/// The host without its port, brackets kept; `None` if it is neither a name nor an address.
fn without_port(host: &str) -> Option<&str> {
    let name_end = match host.strip_prefix('[') {
        Some(inner) => inner.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(name_end);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (port_ok && !name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn loopback_hosts_are_allowed_and_look_alikes_are_not() {
        for host in ["localhost", "LOCALHOST:7700", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:80"] {
            assert!(host_allowed(host, &[]), "{host}");
        }
        for host in [
            "",
            ":80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "[::1",
            "[::1]x",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
            "local host",
            "localhost:80:80",
        ] {
            assert!(!host_allowed(host, &[]), "{host}");
        }
    }

    #[test]
    fn listed_hosts_are_allowed_with_or_without_their_port() {
        let allowed = list(&["gateway.example", "other.example:8443"]);
        for host in ["gateway.example", "Gateway.Example:9", "other.example:8443"] {
            assert!(host_allowed(host, &allowed), "{host}");
        }
        for host in ["other.example", "other.example:1", "x.gateway.example"] {
            assert!(!host_allowed(host, &allowed), "{host}");
        }
        assert!(host_allowed("anything.example", &list(&["*"])));
    }

    #[test]
    fn the_page_of_a_request_is_known_by_one_whole_line_of_its_head() {
        let head = |lines: &str| format!("POST / HTTP/1.1\r\n{lines}");
        for lines in [
            "Origin: http://localhost\r\n",
            "X: y\r\norigin:http://localhost \r\nZ",
            "Origin: http://localhost\r\n\r\n",
        ] {
            assert_eq!(page_of(head(lines).as_bytes(), &[]), Some("http://localhost"), "{lines:?}");
        }
        for lines in [
            "",
            "Origin: http://localhost",
            "Origin: http://evil.example\r\n",
            "Origin: http://localhost\r\nOrigin: http://localhost\r\n",
            "\r\nOrigin: http://localhost\r\n",
            "Origin: http://localhost\rX: y\r\n",
        ] {
            assert_eq!(page_of(head(lines).as_bytes(), &[]), None, "{lines:?}");
        }
        assert_eq!(page_of(b"GET / HTTP/1.1\r\nOrigin: a b\r\n", &list(&["*"])), None);
    }

    #[test]
    fn foreign_pages_are_refused_and_no_page_is_fine() {
        assert!(origin_allowed(None, &[]));
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"] {
            assert!(origin_allowed(Some(origin), &[]), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "file://localhost",
            "http://localhost/",
        ] {
            assert!(!origin_allowed(Some(origin), &[]), "{origin}");
        }
        assert!(origin_allowed(Some("https://app.example"), &list(&["https://app.example"])));
        assert!(!origin_allowed(Some("http://app.example"), &list(&["https://app.example"])));
        assert!(origin_allowed(Some("null"), &list(&["*"])));
    }
}
