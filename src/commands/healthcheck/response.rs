//! The response to `healthcheck`: its status, and its body as text. Reads from no connection.

/// A response; its parts are empty if the bytes are not one.
#[derive(Debug, PartialEq)]
pub(super) struct Response {
    /// The three digits of the status.
    pub status: String,
    /// Without the framing of its transfer.
    pub body: String,
}

impl Response {
    /// Reads all bytes of a connection that the server closed after the response.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let (head, body) = split_once(bytes, b"\r\n\r\n").unwrap_or((bytes, &[]));
        let head = String::from_utf8_lossy(head);
        let is_chunked = head.lines().any(|line| {
            let (name, value) = line.split_once(':').unwrap_or_default();
            name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
        });
        let body = if is_chunked { join_chunks(body) } else { body.to_vec() };
        Self {
            status: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

/// The data of the chunks. Ends at the first one that is incomplete or no chunk.
fn join_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some((size, after)) = split_once(rest, b"\r\n") {
        // Extensions may follow a semicolon.
        let size = String::from_utf8_lossy(size);
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).unwrap_or(0).min(after.len());
        if size == 0 {
            break;
        }
        let (chunk, after) = after.split_at(size);
        data.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").unwrap_or(&[]);
    }
    data
}

fn split_once<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = bytes.windows(separator.len()).position(|window| window == separator)?;
    let (before, rest) = bytes.split_at(place);
    Some((before, rest.strip_prefix(separator)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_framing_of_chunks_is_no_part_of_the_body() {
        for (bytes, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhealthy\n", "200", "healthy\n"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-Encoding: Chunked\r\n\r\n4\r\nheal\r\n4;x=y\r\nthy\n\r\n0\r\n\r\n",
                "200",
                "healthy\n",
            ),
            ("HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nstuck", "503", "stuck"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx", "200", ""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx", "200", ""),
            ("garbage", "", ""),
        ] {
            let expected = Response { status: status.to_owned(), body: body.to_owned() };
            assert_eq!(Response::parse(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}
