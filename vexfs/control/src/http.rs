// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests and responses. No I/O here.
//!
//! A small part of HTTP/1.1: one request per connection, with a length told beforehand. What a peer can make this cost is
//! bounded by [`MAX_HEAD`], [`MAX_HEADERS`] and [`MAX_BODY`].

use std::fmt::Write;

use crate::handler::Refusal;

/// Longest request line with headers.
pub const MAX_HEAD: usize = 8 << 10;
/// Most headers.
pub const MAX_HEADERS: usize = 32;
/// Longest body.
pub const MAX_BODY: usize = 1 << 20;

/// What a request asks with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As `GET`.
    pub method: String,
    /// Without what follows a question mark.
    pub path: String,
    /// As long as it was said to be.
    pub body: Vec<u8>,
}

/// Reads a request from the bytes that came so far. None: it is not complete.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(
                431,
                format!("at most {MAX_HEAD} bytes and {MAX_HEADERS} headers"),
            ));
        }
        Err(httparse::Error::Version) => return Err(Refusal::new(505, "HTTP/1.1 is spoken here")),
        Err(error) => return Err(Refusal::new(400, format!("not a request: {error}"))),
    };
    let target = head.path.unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let body = body_of(head.headers, bytes.get(length..).unwrap_or_default())?;
    Ok(body.map(|body| Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        body,
    }))
}

/// None: it is not complete.
fn body_of(headers: &[httparse::Header<'_>], rest: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal::new(501, "send the body with a Content-Length"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            // Two lengths, or one that is not plain digits, are how requests are smuggled.
            let digits = !header.value.is_empty() && header.value.iter().all(u8::is_ascii_digit);
            let told = std::str::from_utf8(header.value).ok().filter(|_| digits);
            let told = told.and_then(|told| told.parse::<usize>().ok());
            if length.is_some() || !digits {
                return Err(Refusal::new(400, "Content-Length must be one number"));
            }
            // Too many digits for a number are too many bytes.
            length = Some(told.unwrap_or(usize::MAX));
        }
    }
    let length = length.unwrap_or(0);
    if length > MAX_BODY {
        return Err(Refusal::new(413, format!("a body may have {MAX_BODY} bytes")));
    }
    Ok(rest.get(..length).map(<[u8]>::to_vec))
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Of HTTP.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// Methods that are allowed, if the one asked with is not.
    pub allow: Option<&'static str>,
    /// What follows.
    pub body: String,
}

/// The `Content-Type` of JSON.
pub const JSON: &str = "application/json";

impl Response {
    /// A success.
    pub fn ok(content_type: &'static str, body: String) -> Self {
        Self {
            status: 200,
            content_type,
            allow: None,
            body,
        }
    }

    /// A failure.
    pub fn refusal(refusal: &Refusal) -> Self {
        Self {
            status: refusal.status,
            content_type: JSON,
            allow: None,
            body: serde_json::json!({ "error": refusal.message }).to_string() + "\n",
        }
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "Content-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n",
            self.content_type,
            self.body.len()
        );
        if let Some(allow) = self.allow {
            let _ = write!(text, "Allow: {allow}\r\n");
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(bytes: &[u8]) -> u16 {
        parse(bytes).unwrap_err().status
    }

    #[test]
    fn a_request_is_read_once_it_is_complete() {
        let whole = b"POST /label?x=1 HTTP/1.1\r\nHost: localhost\r\ncontent-length: 4\r\n\r\nbodymore";
        let end = whole.len() - 4;
        for length in 0..end {
            assert_eq!(parse(&whole[..length]), Ok(None), "{length}");
        }
        let request = Request {
            method: "POST".into(),
            path: "/label".into(),
            body: b"body".to_vec(),
        };
        assert_eq!(parse(&whole[..end]), Ok(Some(request.clone())));
        assert_eq!(parse(whole), Ok(Some(request)));
    }

    #[test]
    fn what_is_not_a_request_is_refused_with_its_reason() {
        assert_eq!(status(b"\x00\x01\x02 nonsense\r\n\r\n"), 400);
        assert_eq!(status(b"GET /metrics HTTP/2.0\r\n\r\n"), 505);
        assert_eq!(status(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 501);
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n"), 400);
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            400
        );
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
            413
        );
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n"), 413);
    }

    #[test]
    fn a_head_without_end_is_refused_when_it_is_too_long() {
        let mut endless = b"GET / HTTP/1.1\r\nx: ".to_vec();
        endless.resize(MAX_HEAD - 1, b'a');
        assert_eq!(parse(&endless), Ok(None));
        endless.push(b'a');
        assert_eq!(status(&endless), 431);
        let mut many = b"GET / HTTP/1.1\r\n".to_vec();
        many.extend(b"a: b\r\n".repeat(MAX_HEADERS + 1));
        many.extend(b"\r\n");
        assert_eq!(status(&many), 431);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_request_larger_than_its_bounds(
            start in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "POST /x HTTP/1.1\r\ncontent-length: 3\r\n"]),
            rest in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..200),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            match parse(&bytes) {
                Ok(Some(request)) => prop_assert!(request.body.len() <= MAX_BODY && request.path.len() <= MAX_HEAD),
                Ok(None) => {}
                Err(refusal) => prop_assert!((400..600).contains(&refusal.status) && !refusal.message.is_empty()),
            }
        }
    }

    #[test]
    fn a_response_says_how_long_it_is() {
        let bytes = Response::refusal(&Refusal::new(404, "no \"such\"")).encode();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(body, "{\"error\":\"no \\\"such\\\"\"}\n");
    }
}
