//! Strict reading and writing of bytes: every length is checked against what is left before anything is
//! allocated, and bytes after the end are refused.

use crate::error::SecAggError;

/// 2 since masks and signatures are bound to what each client was sent; version 1 bound them to the cohort alone.
const VERSION: u8 = 2;

/// Writes a message: version, kind, run, round, node, then the body.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: Kind, run: u64, round: u64, node: u64) -> Self {
        let mut writer = Self(vec![VERSION, kind.byte()]);
        writer.u64(run).u64(round).u64(node);
        writer
    }

    /// Makes room first, so that growing leaves no copies of secrets behind.
    pub(crate) fn reserve(&mut self, len: usize) -> &mut Self {
        self.0.reserve_exact(len);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// A length of a list, bounded by the cohort and so far below 2^32.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// A message inside this one, or none; see [`Reader::inner`].
    pub(crate) fn inner(&mut self, message: Option<&[u8]>) -> &mut Self {
        let message = message.unwrap_or_default();
        self.count(message.len()).bytes(message)
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Kinds of messages, the second byte of each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Advert,
    ShareRequest,
    ShareReply,
    MaskedRequest,
    MaskedInput,
    UnmaskRequest,
    UnmaskReply,
    CommitRequest,
    Commit,
    ClientState,
}

impl Kind {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Advert => 1,
            Self::ShareRequest => 2,
            Self::ShareReply => 3,
            Self::MaskedRequest => 4,
            Self::MaskedInput => 5,
            Self::UnmaskRequest => 6,
            Self::UnmaskReply => 7,
            Self::CommitRequest => 8,
            Self::Commit => 9,
            Self::ClientState => 0x20,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Advert => "advert",
            Self::ShareRequest => "share request",
            Self::ShareReply => "share reply",
            Self::MaskedRequest => "masked request",
            Self::MaskedInput => "masked input",
            Self::UnmaskRequest => "unmask request",
            Self::UnmaskReply => "unmask reply",
            Self::CommitRequest => "commit request",
            Self::Commit => "commit",
            Self::ClientState => "client state",
        }
    }
}

/// Reads a message front to back.
pub(crate) struct Reader<'a> {
    left: &'a [u8],
    message: &'static str,
}

/// The fields every message starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub run: u64,
    pub round: u64,
    /// Sender, or receiver of a message of the server to one client, or 0.
    pub node: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn open(bytes: &'a [u8], kind: Kind) -> Result<(Self, Header), SecAggError> {
        let mut reader = Self {
            left: bytes,
            message: kind.name(),
        };
        match reader.u8()? {
            VERSION => {}
            1 => {
                return Err(
                    reader.bad("it is of wire version 1, which binds no model; this is version 2")
                );
            }
            _ => return Err(reader.bad("unknown version")),
        }
        if reader.u8()? != kind.byte() {
            return Err(reader.bad("it is a message of another kind"));
        }
        let header = Header {
            run: reader.u64()?,
            round: reader.u64()?,
            node: reader.u64()?,
        };
        Ok((reader, header))
    }

    /// Opens a message of the server to all clients, which names no node.
    pub(crate) fn open_broadcast(
        bytes: &'a [u8],
        kind: Kind,
    ) -> Result<(Self, Header), SecAggError> {
        let (reader, header) = Self::open(bytes, kind)?;
        if header.node == 0 {
            Ok((reader, header))
        } else {
            Err(reader.bad("it names a node"))
        }
    }

    pub(crate) const fn bad(&self, reason: &'static str) -> SecAggError {
        SecAggError::Malformed {
            message: self.message,
            reason,
        }
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], SecAggError> {
        let (taken, left) = self
            .left
            .split_at_checked(len)
            .ok_or_else(|| self.bad("it ends too early"))?;
        self.left = left;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], SecAggError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, SecAggError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, SecAggError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, SecAggError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A yes or no, spelled 1 or 0 and nothing else.
    pub(crate) fn flag(&mut self) -> Result<bool, SecAggError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad("a flag is neither 0 nor 1")),
        }
    }

    /// A message inside a message: a length, then as many bytes. Empty stands for none.
    pub(crate) fn inner(&mut self) -> Result<Option<&'a [u8]>, SecAggError> {
        let len = self.count(1)?;
        Ok(Some(self.slice(len)?).filter(|bytes| !bytes.is_empty()))
    }

    /// A length of a list of items of at least `item` bytes: refused when more are announced than fit.
    pub(crate) fn count(&mut self, item: usize) -> Result<usize, SecAggError> {
        let count = self.u32()? as usize;
        if count
            .checked_mul(item)
            .is_none_or(|len| len > self.left.len())
        {
            return Err(self.bad("a length is larger than the message"));
        }
        Ok(count)
    }

    /// A list sorted strictly by its node, so that there is one encoding only and nobody comes twice.
    pub(crate) fn nodes<T>(
        &mut self,
        item: usize,
        mut read: impl FnMut(&mut Self, u64) -> Result<T, SecAggError>,
    ) -> Result<Vec<T>, SecAggError> {
        let count = self.count(item)?;
        let mut items = Vec::with_capacity(count);
        let mut before = None;
        for _ in 0..count {
            let node = self.u64()?;
            if before.is_some_and(|before| before >= node) {
                return Err(self.bad("nodes are not in strictly increasing order"));
            }
            before = Some(node);
            items.push(read(self, node)?);
        }
        Ok(items)
    }

    /// Keys of 32 bytes in strictly increasing order.
    pub(crate) fn keys(&mut self) -> Result<Vec<[u8; 32]>, SecAggError> {
        let count = self.count(32)?;
        let mut keys: Vec<[u8; 32]> = Vec::with_capacity(count);
        for _ in 0..count {
            let key = self.array()?;
            if keys.last().is_some_and(|before| *before >= key) {
                return Err(self.bad("keys are not in strictly increasing order"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    pub(crate) fn finish(self) -> Result<(), SecAggError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(self.bad("bytes follow its end"))
        }
    }
}
