//! A stream of bytes cut into packets: a header that says how long the payload is, then the payload. Pure.

use std::marker::PhantomData;

use super::broken::Broken;

/// A kind of header.
pub trait Header: Sized {
    /// Most bytes of a header: with so many, [`Header::parse`] always gives a header or an error.
    const MAX: usize;

    /// The header at the start of `bytes` if it is complete, its length, and the length of its payload.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize, u64)>, Broken>;
}

/// Cuts a program's output into packets, however the bytes come.
#[derive(Debug)]
pub struct Packets<H> {
    /// The beginning of a packet that is not complete.
    partial: Vec<u8>,
    limit: usize,
    header: PhantomData<H>,
}

impl<H: Header> Packets<H> {
    /// `limit` is the largest payload, in bytes.
    pub fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), limit, header: PhantomData }
    }

    /// Takes the next bytes and gives each packet that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut packet: impl FnMut(H, &[u8])) -> Result<(), Broken> {
        loop {
            if self.partial.is_empty() {
                match self.header(bytes)? {
                    Some((header, start, end)) if end <= bytes.len() => {
                        packet(header, &bytes[start..end]);
                        bytes = &bytes[end..];
                    }
                    _ => {
                        self.partial.extend_from_slice(bytes);
                        return Ok(());
                    }
                }
                continue;
            }
            // A packet in parts: its header first, then as many bytes as that says.
            let before = self.partial.len();
            let wanted = self.header(&self.partial)?.map_or(H::MAX, |(_, _, end)| end);
            let step = wanted.saturating_sub(before).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..step]);
            match self.header(&self.partial)? {
                Some((header, start, end)) if end <= self.partial.len() => {
                    // The bytes added to complete the header may belong to the next packet.
                    bytes = &bytes[end - before..];
                    packet(header, &std::mem::take(&mut self.partial)[start..end]);
                }
                _ => {
                    bytes = &bytes[step..];
                    if bytes.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Bytes of a packet that is not complete.
    pub fn unfinished(&self) -> usize {
        self.partial.len()
    }

    /// The header at the start of `bytes`, and where its payload starts and ends.
    fn header(&self, bytes: &[u8]) -> Result<Option<(H, usize, usize)>, Broken> {
        let Some((header, start, length)) = H::parse(bytes)? else { return Ok(None) };
        match usize::try_from(length) {
            Ok(payload) if payload <= self.limit => Ok(Some((header, start, start.saturating_add(payload)))),
            _ => Err(Broken::Length(length)),
        }
    }

    /// Bytes of memory that a packet in parts takes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.partial.capacity()
    }
}
