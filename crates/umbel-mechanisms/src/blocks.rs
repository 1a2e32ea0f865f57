//! Coordinates in blocks, on several threads and in vectors.

/// Runs `work` compiled for the best instruction set of this processor, with the same result. Only what is inlined into it gains.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Coordinates that share a stream of noise. Part of what a simulation reproduces, therefore never changed.
pub(crate) const BLOCK: usize = 4_096;

/// Calls `work` with the number and the two parts of each block of two vectors of one length. Which thread does a block has
/// no influence on what it is given.
pub(crate) fn for_blocks<A: Send, B: Send>(
    left: &mut [A],
    right: &mut [B],
    n_threads: usize,
    work: impl Fn(u64, &mut [A], &mut [B]) + Sync,
) {
    let n_blocks = left.len().div_ceil(BLOCK);
    let n_threads = n_threads.clamp(1, n_blocks.max(1));
    let share = n_blocks.div_ceil(n_threads).max(1) * BLOCK;
    let work = &work;
    let do_part = move |part: usize, left: &mut [A], right: &mut [B]| {
        let blocks = left.chunks_mut(BLOCK).zip(right.chunks_mut(BLOCK));
        for (block, (left, right)) in ((part * (share / BLOCK)) as u64..).zip(blocks) {
            work(block, left, right);
        }
    };
    std::thread::scope(|scope| {
        let mut parts = left.chunks_mut(share).zip(right.chunks_mut(share)).enumerate();
        let own = parts.next();
        for (part, (left, right)) in parts {
            scope.spawn(move || do_part(part, left, right));
        }
        if let Some((part, (left, right))) = own {
            do_part(part, left, right);
        }
    });
}
