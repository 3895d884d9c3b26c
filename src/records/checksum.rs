//! CRC-32C of bytes whose parts are known by their own: joined, not computed again.
//!
//! A checksum of A then B is that of A, moved past as many zero bits as B has, plus that of B (zlib's `crc32_combine`):
//! polynomials over GF(2), with the coefficient of x^0 in the highest bit. Pure.

use super::layout;

/// The polynomial of CRC-32C without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0.
const ONE: u32 = 1 << 31;
/// x^(2^n) for every n that the length of a part in bits may need.
const POWERS: [u32; 64] = powers();

const fn product(mut one: u32, mut other: u32) -> u32 {
    let mut product = 0;
    while one != 0 {
        product ^= other & (one >> 31).wrapping_neg();
        one <<= 1;
        other = (other >> 1) ^ (POLYNOMIAL & (other & 1).wrapping_neg());
    }
    product
}

const fn powers() -> [u32; 64] {
    let mut powers = [ONE >> 1; 64];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = product(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

/// The CRC-32C of many bytes: with the widest instructions that the processor has.
pub fn of(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of two pieces of bytes, from that of the first, that of the second and the length of the second.
pub fn joined(first: u32, second: u32, second_bytes: usize) -> u32 {
    let mut bits = second_bytes as u64 * 8;
    let mut moved = first;
    while bits != 0 {
        moved = product(POWERS[bits.trailing_zeros() as usize], moved);
        bits &= bits - 1;
    }
    moved ^ second
}

/// Continues the checksum `sum` over a batch whose own CRC is known to be right: its records are not read for it.
pub fn continued_over_batch(sum: u32, batch: &[u8]) -> u32 {
    match batch.split_at_checked(layout::ATTRIBUTES) {
        Some((head, covered)) => {
            let crc = [head[layout::CRC], head[layout::CRC + 1], head[layout::CRC + 2], head[layout::CRC + 3]];
            joined(crc32c::crc32c_append(sum, head), u32::from_be_bytes(crc), covered.len())
        }
        None => crc32c::crc32c_append(sum, batch),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::BatchBuilder;

    proptest! {
        #[test]
        fn joining_is_as_good_as_computing(bytes in prop::collection::vec(any::<u8>(), 0..5000), at: u16) {
            let (first, second) = bytes.split_at(usize::from(at) % (bytes.len() + 1));
            let sum = joined(crc32c::crc32c(first), crc32c::crc32c(second), second.len());
            prop_assert_eq!(sum, crc32c::crc32c(&bytes));
        }
    }

    #[test]
    fn a_batch_is_summed_by_its_own_crc() {
        let mut builder = BatchBuilder::new(0);
        builder.push(5, None, Some(&[7; 3000]), &[]);
        let batch = builder.build();
        assert_eq!(continued_over_batch(77, &batch), crc32c::crc32c_append(77, &batch));
        assert_eq!(continued_over_batch(77, b"short"), crc32c::crc32c_append(77, b"short"));
    }
}
