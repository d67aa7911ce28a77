//! Closing without losing the answer.
//!
//! A request that is refused early (too large, no credential) is answered while its body still comes in. Closing
//! then makes the kernel send a reset, and the reset throws the answer away that the peer has not read yet
//! (RFC 9112 section 9.6). So the sending side is closed first, and what still comes in is read and dropped for a while.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// How long a peer may go on sending after its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many bytes of it are read.
const BYTES: usize = 64 * 1024 * 1024;

/// A stream that lingers when it is shut down.
pub(super) struct Lingering {
    stream: TcpStream,
    closing: Option<Closing>,
}

/// The sending side is closed; the peer has yet to close its own.
struct Closing {
    deadline: Pin<Box<Sleep>>,
    left: usize,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, closing: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            let deadline = Box::pin(tokio::time::sleep_until(Instant::now() + PATIENCE));
            this.closing = Some(Closing { deadline, left: BYTES });
        }
        let Some(closing) = &mut this.closing else { return Poll::Ready(Ok(())) };
        let mut dropped = [0; 16 * 1024];
        while closing.left > 0 && closing.deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            match buffer.filled().len() {
                // The peer closed, or reset.
                0 => break,
                _ if read.is_err() => break,
                read => closing.left = closing.left.saturating_sub(read),
            }
        }
        Poll::Ready(Ok(()))
    }
}
