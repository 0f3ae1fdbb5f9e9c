//! Many short lists in one array that does not grow.

/// Ends a list.
const NONE: usize = usize::MAX;

/// Room for a number of items, in lists that are freed in any order.
#[derive(Debug)]
pub(super) struct Pool<T> {
    cells: Vec<Cell<T>>,
    /// The first cell that was freed.
    free: usize,
    /// Items that there is room for.
    room: usize,
}

#[derive(Debug)]
struct Cell<T> {
    item: T,
    next: usize,
}

/// The place of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: usize,
    items: usize,
}

impl<T: Copy> Pool<T> {
    pub(super) fn with_capacity(items: usize) -> Self {
        Self {
            cells: Vec::with_capacity(items),
            free: NONE,
            room: items,
        }
    }

    pub(super) fn has_room(&self, items: usize) -> bool {
        items <= self.room
    }

    /// Stores `items`, for which there is room.
    pub(super) fn store(&mut self, items: impl DoubleEndedIterator<Item = T>) -> List {
        let empty = List {
            first: NONE,
            items: 0,
        };
        items.rev().fold(empty, |list, item| List {
            first: self.place(Cell {
                item,
                next: list.first,
            }),
            items: list.items + 1,
        })
    }

    fn place(&mut self, cell: Cell<T>) -> usize {
        self.room -= 1;
        let at = self.free;
        match self.cells.get_mut(at) {
            Some(freed) => {
                self.free = freed.next;
                *freed = cell;
                at
            }
            None => {
                self.cells.push(cell);
                self.cells.len() - 1
            }
        }
    }

    /// Returns the items of `list`, which was not freed.
    pub(super) fn items(&self, list: List) -> impl Iterator<Item = T> {
        let mut next = list.first;
        std::iter::from_fn(move || {
            let cell = self.cells.get(next)?;
            next = cell.next;
            Some(cell.item)
        })
    }

    /// Makes room of `list`.
    pub(super) fn free(&mut self, list: List) {
        let mut at = list.first;
        while let Some(cell) = self.cells.get_mut(at) {
            let next = cell.next;
            cell.next = self.free;
            self.free = at;
            at = next;
        }
        self.room += list.items;
    }

    /// Frees every list.
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.free = NONE;
        self.room = self.cells.capacity();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_keep_their_items_whatever_is_freed_between(
            steps in prop::collection::vec((0_usize..6, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut pool = Pool::with_capacity(16);
            let capacity = pool.cells.capacity();
            let mut kept: Vec<(List, Vec<usize>)> = Vec::new();
            for (number, (items, which)) in steps.into_iter().enumerate() {
                let used: usize = kept.iter().map(|(_, items)| items.len()).sum();
                prop_assert_eq!(pool.has_room(items), used + items <= 16);
                if pool.has_room(items) {
                    let items: Vec<usize> = (0..items).map(|item| number * 10 + item).collect();
                    kept.push((pool.store(items.iter().copied()), items));
                } else {
                    let (list, _) = kept.swap_remove(which.index(kept.len()));
                    pool.free(list);
                }
                for (list, items) in &kept {
                    prop_assert!(pool.items(*list).eq(items.iter().copied()));
                }
            }
            prop_assert_eq!(pool.cells.capacity(), capacity);
            pool.clear();
            prop_assert!(pool.has_room(16) && !pool.has_room(17));
        }
    }
}
