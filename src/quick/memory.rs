//! How much memory is given to what stays until something like it takes its place.

/// How much memory a text of so many bytes gets that is kept: a little more than it needs, so that what takes
/// its place later, a few bytes shorter or longer, fits into the gap it leaves.
#[must_use]
pub fn room(length: usize) -> usize {
    let step = (length.next_power_of_two() / 32).max(16);
    length.next_multiple_of(step)
}
