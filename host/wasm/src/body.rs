//! The data of a body, which nobody copies until a filter writes to it.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};

/// Data of a body: a piece as it came, or what became of several, or of one that was written to.
#[derive(Debug, Default)]
pub struct BodyData {
    /// As it came: others may read it, too. Empty once there is something of its own.
    shared: Bytes,
    own: BytesMut,
}

impl BodyData {
    /// Puts a piece behind what is there. The first one is not copied.
    pub fn append(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.shared = piece;
        } else if !piece.is_empty() {
            self.make_mut().extend_from_slice(&piece);
        }
    }

    /// To write to: a copy, where others may read the same.
    pub fn make_mut(&mut self) -> &mut BytesMut {
        if !self.shared.is_empty() {
            let own = std::mem::take(&mut self.shared).try_into_mut();
            self.own = own.unwrap_or_else(|shared| BytesMut::from(&*shared));
        }
        &mut self.own
    }

    /// What it is now; further writes do not change that.
    pub fn share(&mut self) -> Bytes {
        self.shared = std::mem::take(self).freeze();
        self.shared.clone()
    }

    /// Lets go of all of it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What it is now, for others to read.
    pub fn freeze(self) -> Bytes {
        if self.own.is_empty() {
            self.shared
        } else {
            self.own.freeze()
        }
    }
}

impl Deref for BodyData {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if self.own.is_empty() {
            &self.shared
        } else {
            &self.own
        }
    }
}

impl From<Bytes> for BodyData {
    fn from(shared: Bytes) -> Self {
        Self {
            shared,
            own: BytesMut::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_goes_through_as_it_is() {
        let piece = Bytes::from(vec![b'a'; 100]);
        let mut data = BodyData::default();
        data.append(piece.clone());
        data.append(Bytes::new());
        assert_eq!(data.freeze().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn what_others_read_does_not_change() {
        let piece = Bytes::from(vec![b'a'; 3]);
        let mut data = BodyData::from(piece.clone());
        data.make_mut()[0] = b'b';
        assert_eq!((&data[..], &piece[..]), (&b"baa"[..], &b"aaa"[..]));
    }

    #[test]
    fn pieces_stand_in_their_order() {
        let mut data = BodyData::default();
        for piece in ["one ", "", "two ", "three"] {
            data.append(Bytes::from(piece));
        }
        assert_eq!(&data[..], b"one two three");
        data.clear();
        data.append(Bytes::from("four"));
        assert_eq!(data.freeze(), "four");
    }
}
