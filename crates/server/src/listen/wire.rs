//! The bytes of a connection, with or without TLS, counted.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::{activity::Activity, linger::Lingering};

/// One connection.
pub(super) struct Wire {
    stream: Stream,
    activity: Arc<Activity>,
}

pub(super) enum Stream {
    Plain(Lingering),
    Tls(Box<TlsStream<Lingering>>),
}

impl Wire {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

/// The same call on either kind of stream.
macro_rules! on_stream {
    ($self:ident, $call:ident($($argument:expr),*)) => {
        match &mut $self.stream {
            Stream::Plain(stream) => Pin::new(stream).$call($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$call($($argument),*),
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = on_stream!(self, poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.activity.read();
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = on_stream!(self, poll_write(context, bytes));
        self.activity.wrote(taken(&wrote));
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = on_stream!(self, poll_write_vectored(context, slices));
        self.activity.wrote(taken(&wrote));
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes bytes that the peer does not.
        let flushed = on_stream!(self, poll_flush(context));
        self.activity.wrote(flushed.is_ready().then_some(0));
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(context))
    }
}

/// How much was taken; `None` while the peer takes nothing.
fn taken(wrote: &Poll<io::Result<usize>>) -> Option<usize> {
    match wrote {
        Poll::Ready(wrote) => Some(*wrote.as_ref().unwrap_or(&0)),
        Poll::Pending => None,
    }
}
