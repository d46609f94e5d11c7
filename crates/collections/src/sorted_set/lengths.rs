//! How the lengths of the members in one leaf are stored: once where all are equal, else in 1 byte each or in 2.

/// The form of all lengths in one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lengths {
    /// All are this one; the column is empty.
    Equal(u16),
    Short,
    /// Little-endian.
    Long,
}

impl Lengths {
    /// The narrowest form that holds all these lengths.
    pub(super) fn of(lengths: impl Iterator<Item = usize>) -> Lengths {
        let (mut shortest, mut longest) = (usize::MAX, 0);
        for len in lengths {
            (shortest, longest) = (shortest.min(len), longest.max(len));
        }
        if shortest >= longest {
            Lengths::Equal(narrow(longest))
        } else if longest <= usize::from(u8::MAX) {
            Lengths::Short
        } else {
            Lengths::Long
        }
    }

    /// Bytes that a member takes in the column.
    #[inline]
    pub(super) fn len(self) -> usize {
        match self {
            Lengths::Equal(_) => 0,
            Lengths::Short => 1,
            Lengths::Long => 2,
        }
    }

    /// Whether this form holds a length.
    #[inline]
    pub(super) fn fits(self, len: usize) -> bool {
        match self {
            Lengths::Equal(all) => usize::from(all) == len,
            Lengths::Short => len <= usize::from(u8::MAX),
            Lengths::Long => len <= usize::from(u16::MAX),
        }
    }

    /// The length at a place of the column.
    #[inline]
    pub(super) fn read(self, column: &[u8], place: usize) -> usize {
        match self {
            Lengths::Equal(all) => usize::from(all),
            Lengths::Short => usize::from(column[place]),
            Lengths::Long => usize::from(u16::from_le_bytes(column.as_chunks::<2>().0[place])),
        }
    }

    /// All lengths before a place of the column, added up.
    #[inline]
    pub(super) fn sum_before(self, column: &[u8], place: usize) -> usize {
        let sum: u32 = match self {
            Lengths::Equal(all) => return usize::from(all) * place,
            Lengths::Short => column[..place].iter().map(|len| u32::from(*len)).sum(),
            Lengths::Long => {
                column.as_chunks::<2>().0[..place].iter().map(|len| u32::from(u16::from_le_bytes(*len))).sum()
            }
        };
        sum as usize
    }

    /// Writes a length that [`Lengths::fits`].
    #[inline]
    pub(super) fn write(self, column: &mut [u8], place: usize, len: usize) {
        let [low, high] = narrow(len).to_le_bytes();
        match self {
            Lengths::Equal(_) => {}
            Lengths::Short => column[place] = low,
            Lengths::Long => column.as_chunks_mut::<2>().0[place] = [low, high],
        }
    }
}

#[inline]
fn narrow(len: usize) -> u16 {
    u16::try_from(len).expect("long members are not packed")
}

#[cfg(test)]
mod tests {
    use super::Lengths;

    #[test]
    fn lengths_are_stored_in_the_narrowest_form() {
        let check = |lengths: &[usize], expected: Lengths| {
            let form = Lengths::of(lengths.iter().copied());
            assert_eq!(form, expected, "{lengths:?}");
            let mut column = vec![0; lengths.len() * form.len()];
            for (place, len) in lengths.iter().enumerate() {
                assert!(form.fits(*len));
                form.write(&mut column, place, *len);
            }
            for (place, len) in lengths.iter().enumerate() {
                assert_eq!(form.read(&column, place), *len, "{lengths:?}");
            }
            for place in 0..=lengths.len() {
                let sum: usize = lengths[..place].iter().sum();
                assert_eq!(form.sum_before(&column, place), sum, "{lengths:?}");
            }
        };
        check(&[], Lengths::Equal(0));
        check(&[0, 0], Lengths::Equal(0));
        check(&[16], Lengths::Equal(16));
        check(&[300, 300, 300], Lengths::Equal(300));
        check(&[0, 255], Lengths::Short);
        check(&[8; 40], Lengths::Equal(8));
        check(&[3, 4, 5, 4, 3, 3, 200, 255, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 1], Lengths::Short);
        check(&[0, 256], Lengths::Long);
        check(&[1024, 1023, 5], Lengths::Long);
        assert!(!Lengths::Equal(16).fits(15));
        assert!(!Lengths::Short.fits(256));
    }
}
