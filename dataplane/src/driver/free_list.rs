//! Free descriptors of a split virtqueue, linked as a driver links them: those of a chain stay linked while it is
//! with the device.

/// Which descriptors are free, in the order in which they are to be used.
#[derive(Debug)]
pub(super) struct FreeList {
    /// The descriptor behind each.
    next: Vec<u16>,
    first: u16,
    last: u16,
    /// How many are free.
    count: u16,
}

impl FreeList {
    /// Returns one of `size` descriptors, all free, from 0 up.
    pub(super) fn new(size: u16) -> Self {
        Self {
            next: (1..=size).collect(),
            first: 0,
            last: size - 1,
            count: size,
        }
    }

    /// Returns the descriptor behind `index` in its chain; of the last one nothing that means anything.
    #[inline]
    pub(super) fn behind(&self, index: u16) -> u16 {
        self.next[usize::from(index)]
    }

    /// Takes the first `count`, at least one. Returns the head of their chain, or `None` when there are not enough.
    #[inline]
    pub(super) fn take(&mut self, count: u16) -> Option<u16> {
        if self.count < count {
            return None;
        }
        let head = self.first;
        self.first = self.behind(self.end_of(head, count));
        self.count -= count;
        Some(head)
    }

    /// Takes the chain of `count` at `head` back, to be used before all others.
    #[inline]
    pub(super) fn give_first(&mut self, head: u16, count: u16) {
        let Some(end) = self.come_back(head, count) else {
            return;
        };
        self.next[usize::from(end)] = self.first;
        self.first = head;
    }

    /// Takes the chain of `count` at `head` back, to be used after all others.
    #[inline]
    pub(super) fn give_last(&mut self, head: u16, count: u16) {
        let Some(end) = self.come_back(head, count) else {
            return;
        };
        self.next[usize::from(self.last)] = head;
        self.last = end;
    }

    /// Counts a chain as free. Returns its last descriptor where others are free, too.
    #[inline]
    fn come_back(&mut self, head: u16, count: u16) -> Option<u16> {
        if count == 0 {
            return None;
        }
        let end = self.end_of(head, count);
        self.count += count;
        if self.count == count {
            (self.first, self.last) = (head, end);
            return None;
        }
        Some(end)
    }

    #[inline]
    fn end_of(&self, head: u16, count: u16) -> u16 {
        (1..count).fold(head, |index, _| self.behind(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(list: &FreeList, head: u16, count: u16) -> Vec<u16> {
        let behind = |index: &u16| Some(list.behind(*index));
        let chain = std::iter::successors(Some(head), behind);
        chain.take(usize::from(count)).collect()
    }

    #[test]
    fn chains_are_used_again_first_or_last() {
        for first in [true, false] {
            let mut list = FreeList::new(8);
            let one = list.take(3).unwrap();
            let two = list.take(4).unwrap();
            assert_eq!(chain(&list, one, 3), [0, 1, 2]);
            assert_eq!(chain(&list, two, 4), [3, 4, 5, 6]);
            assert_eq!(list.take(2), None);
            if first {
                list.give_first(one, 3);
            } else {
                list.give_last(one, 3);
            }
            let again = list.take(3).unwrap();
            let expected = if first { [0, 1, 2] } else { [7, 0, 1] };
            assert_eq!(chain(&list, again, 3), expected);
        }
    }

    #[test]
    fn a_list_that_was_empty_begins_anew() {
        let mut list = FreeList::new(4);
        for _ in 0..10 {
            let head = list.take(4).unwrap();
            assert_eq!(list.take(1), None);
            list.give_last(head, 4);
            let head = list.take(4).unwrap();
            list.give_first(head, 4);
        }
        let head = list.take(4).unwrap();
        assert_eq!(chain(&list, head, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn every_descriptor_is_lent_once_whatever_the_order() {
        let mut list = FreeList::new(16);
        let mut lent: Vec<(u16, u16)> = Vec::new();
        for step in 0..1000_usize {
            let count = (step % 5 + 1) as u16;
            if let Some(head) = list.take(count) {
                lent.push((head, count));
            } else {
                let (head, count) = lent.swap_remove(step * 7 % lent.len());
                if step % 2 == 0 {
                    list.give_first(head, count);
                } else {
                    list.give_last(head, count);
                }
            }
            let all = lent
                .iter()
                .flat_map(|&(head, count)| chain(&list, head, count));
            let mut all: Vec<u16> = all.collect();
            let total = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!((all.len(), list.count), (total, 16 - total as u16));
        }
    }
}
