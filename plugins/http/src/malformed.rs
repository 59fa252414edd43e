//! What is wrong with a message: the names under which sessions are refused.

use thiserror::Error;

/// Why a message can't be followed. What two programs may read differently (request smuggling,
/// RFC 9112, section 11.2) is refused, not guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    /// A start line or a field that is none.
    #[error("bad_head")]
    BadHead,
    /// A field that goes on in the next line (RFC 9112, section 5.2).
    #[error("obs_fold")]
    ObsFold,
    /// More bytes than `header_bytes`.
    #[error("head_too_large")]
    HeadTooLarge,
    /// More fields than `header_count`.
    #[error("too_many_headers")]
    TooManyHeaders,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("http_version")]
    Version,
    /// The preface of HTTP/2.
    #[error("http2")]
    Http2,
    /// The beginning of a TLS session.
    #[error("tls")]
    Tls,
    /// `Content-Length` and `Transfer-Encoding` in one request.
    #[error("both_lengths")]
    BothLengths,
    /// Several values of `Content-Length` that differ.
    #[error("differing_lengths")]
    DifferingLengths,
    /// A `Content-Length` that is no number.
    #[error("bad_content_length")]
    BadContentLength,
    /// A `Transfer-Encoding` that does not end with one `chunked`.
    #[error("bad_transfer_coding")]
    BadTransferCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    #[error("transfer_coding_in_http_1_0")]
    TransferCodingInHttp10,
    /// A chunk's size or end that is none.
    #[error("bad_chunk")]
    BadChunk,
    /// Extensions of a chunk without end.
    #[error("chunk_line_too_long")]
    ChunkLineTooLong,
    /// More trailers than `header_bytes`.
    #[error("trailers_too_large")]
    TrailersTooLarge,
}
