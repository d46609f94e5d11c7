//! Search in a short sorted slice.

/// Number of items of a sorted slice for which `is_below` holds; then it holds for none behind. `step` is at least 1, best about
/// the square root of the length, or as many as share a cache line.
///
/// A binary search would wait for one cache line after the other. This asks one item of each step, all at once, and then those
/// of one step.
#[inline]
pub(crate) fn partition_point<T>(items: &[T], step: usize, is_below: impl Fn(&T) -> bool) -> usize {
    let steps = items.iter().step_by(step).filter(|item| is_below(item)).count();
    let Some(start) = steps.checked_sub(1).map(|it| it * step) else { return 0 };
    let between = &items[start..items.len().min(start + step)];
    start + between.iter().filter(|item| is_below(item)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_point_is_that_of_the_standard_library() {
        for len in 0..70 {
            let items: Vec<usize> = (0..len).collect();
            for step in [1, 2, 8, 16, 100] {
                for limit in 0..=len {
                    let found = partition_point(&items, step, |item| *item < limit);
                    assert_eq!(
                        found,
                        items.partition_point(|item| *item < limit),
                        "{limit} of {len}, step {step}"
                    );
                }
            }
        }
    }
}
