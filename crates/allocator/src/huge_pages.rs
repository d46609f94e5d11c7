//! Huge pages for memory that is full.
//!
//! The kernel maps memory in pages of 4 KiB, and a program that reads all over many gigabytes waits for their addresses to be
//! looked up. [`HugePages`] finds blocks of 2 MiB of which every page is in use and has the kernel move each of them into one
//! huge page. A block with a hole is left alone, so that no memory is taken that the program has not touched.
//!
//! Source: madvise(2), `MADV_COLLAPSE` (Linux 6.1); the kernel's documentation of pagemap, `PAGEMAP_SCAN` (Linux 6.7).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;

/// Bytes in a huge page.
pub const BLOCK_LEN: usize = 2 << 20;
/// Address space that one call to the kernel looks through, in bytes.
const SCAN_LEN: usize = 1 << 30;
/// Pieces that one such call may report.
const SCAN_PIECES: usize = 512;

/// What the administrator of the machine allows. Source: the kernel's documentation of transparent huge pages.
const POLICY_FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// `PAGEMAP_SCAN`, an ioctl of `/proc/self/pagemap`. Source: `linux/fs.h`, whose addresses and lengths have 64 bits.
const PAGEMAP_SCAN: u64 = 0xC060_6610;
const _: () = assert!(usize::BITS == 64);
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_HUGE: u64 = 1 << 6;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct ScanArguments {
    size: usize,
    flags: u64,
    start: usize,
    end: usize,
    walk_end: usize,
    vec: usize,
    vec_len: usize,
    max_pages: usize,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Region {
    start: usize,
    end: usize,
    categories: u64,
}

/// Why there are no huge pages here.
#[derive(Debug)]
pub enum Unavailable {
    /// The administrator of the machine has forbidden them.
    Forbidden,
    /// The kernel cannot say which pages are in use, or cannot move them.
    Kernel(io::Error),
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forbidden => write!(formatter, "{POLICY_FILE} says never"),
            Self::Kernel(error) => {
                write!(formatter, "the kernel does not have what is needed (Linux 6.7): {error}")
            }
        }
    }
}

impl std::error::Error for Unavailable {}

/// Finds and moves full blocks of this process. One owner is enough: two would move the same ones.
#[derive(Debug)]
pub struct HugePages {
    pagemap: File,
    spare: Spare,
    regions: Box<[Region; SCAN_PIECES]>,
    /// Where a block is looked at once more.
    again: Vec<usize>,
    /// Where the next search begins.
    cursor: usize,
}

impl HugePages {
    /// Looks whether this machine has huge pages.
    ///
    /// # Errors
    /// It has none, or they are forbidden.
    pub fn open() -> Result<Self, Unavailable> {
        let policy = std::fs::read_to_string(POLICY_FILE).map_err(Unavailable::Kernel)?;
        if policy.contains("[never]") {
            return Err(Unavailable::Forbidden);
        }
        let pagemap = File::open("/proc/self/pagemap").map_err(Unavailable::Kernel)?;
        let spare = Spare::reserve().map_err(Unavailable::Kernel)?;
        let mut pages = Self {
            pagemap,
            spare,
            regions: Box::new([Region::default(); SCAN_PIECES]),
            again: Vec::new(),
            cursor: 0,
        };
        let block = pages.spare.block.as_ptr().addr();
        pages.scan(block, block + BLOCK_LEN, &mut Vec::new()).map_err(Unavailable::Kernel)?;
        Ok(pages)
    }

    /// Adds the addresses of full blocks that do not lie in huge pages, about `most` at once. Each call goes on where the last
    /// has ended; false when that was the end of the memory, and the next call starts over.
    ///
    /// # Errors
    /// The kernel does not say what is mapped.
    pub fn find(&mut self, most: usize, blocks: &mut Vec<usize>) -> io::Result<bool> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        for (start, end) in maps.lines().filter_map(anonymous_range) {
            let mut at = start.max(self.cursor).next_multiple_of(BLOCK_LEN);
            let end = end - end % BLOCK_LEN;
            while at < end {
                if blocks.len() >= most {
                    self.cursor = at;
                    return Ok(true);
                }
                at = self.scan(at, end.min(at + SCAN_LEN), blocks)?;
            }
        }
        self.cursor = 0;
        Ok(false)
    }

    /// Adds the full blocks between two addresses; returns where the next call goes on.
    fn scan(&mut self, start: usize, end: usize, blocks: &mut Vec<usize>) -> io::Result<usize> {
        let asked = PAGE_IS_PRESENT | PAGE_IS_HUGE | PAGE_IS_FILE | PAGE_IS_PFNZERO;
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>(),
            start,
            end,
            vec: self.regions.as_mut_ptr().expose_provenance(),
            vec_len: SCAN_PIECES,
            category_inverted: asked & !PAGE_IS_PRESENT,
            category_mask: asked,
            return_mask: PAGE_IS_PRESENT,
            ..ScanArguments::default()
        };
        // SAFETY: the kernel writes into `arguments` and at most `vec_len` regions, both of which live through the call.
        let found = unsafe { libc::ioctl(self.pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut arguments) };
        let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        for region in &self.regions[..found.min(SCAN_PIECES)] {
            let (first, end) = (region.start, region.end);
            blocks.extend(
                (first.next_multiple_of(BLOCK_LEN)..)
                    .step_by(BLOCK_LEN)
                    .take_while(|at| at + BLOCK_LEN <= end),
            );
        }
        // A piece that ends where the call stopped may go on behind it: its block is looked at again as a whole.
        let stopped = arguments.walk_end;
        let next = if stopped < end { stopped - stopped % BLOCK_LEN } else { end };
        Ok(if next > start { next } else { start + BLOCK_LEN })
    }

    /// Moves a block that [`HugePages::find`] has found into a huge page.
    ///
    /// Whoever touches the block meanwhile waits until it is done: the time of copying 2 MiB. A virtual machine's memory
    /// may be such as its host has not backed yet, and copying there takes ten times as long; therefore a huge page is taken,
    /// touched and given back first, and it is the one that the kernel takes next.
    ///
    /// False when it stays where it is: it is not full any more, or the kernel has no huge page or no right to more memory at the
    /// moment.
    pub fn move_block(&mut self, block: usize) -> bool {
        self.spare.touch();
        // The kernel would fill holes, and what the allocator has given back would be taken again for ever. The time in which
        // one can still come to be is as short as it can be made from here.
        let mut again = std::mem::take(&mut self.again);
        let is_full = self.scan(block, block + BLOCK_LEN, &mut again).is_ok() && again == [block];
        again.clear();
        self.again = again;
        // SAFETY: moving pages changes no content, and an address that is not mapped any more is refused.
        is_full
            && 0 == unsafe {
                libc::madvise(std::ptr::without_provenance_mut(block), BLOCK_LEN, libc::MADV_COLLAPSE)
            }
    }
}

/// Start and end of a line of `/proc/self/maps` that is private memory without a file, of a block at least.
fn anonymous_range(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights, _, _, inode, name) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?, words.next());
    let is_ours = rights == "rw-p" && inode == "0" && name.is_none_or(|name| name.starts_with("[anon:"));
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (is_ours && end - start >= BLOCK_LEN).then_some((start, end))
}

/// Address space for one huge page, which holds memory only while it is touched.
#[derive(Debug)]
struct Spare {
    mapping: NonNull<u8>,
    block: NonNull<u8>,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Spare {}

impl Spare {
    const LEN: usize = 2 * BLOCK_LEN;

    fn reserve() -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(mapping.cast::<u8>()).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the mapping has two blocks, so that one which is aligned lies within.
        let block = unsafe { mapping.add(mapping.align_offset(BLOCK_LEN)) };
        let spare = Self { mapping, block };
        // SAFETY: the block is mapped and belongs to this value.
        if unsafe { libc::madvise(block.as_ptr().cast(), BLOCK_LEN, libc::MADV_HUGEPAGE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(spare)
    }

    /// Takes a huge page, which the kernel fills with zeros, and gives it back.
    fn touch(&mut self) {
        // SAFETY: the block is mapped, writable and belongs to this value; nothing is kept in it.
        unsafe {
            self.block.as_ptr().write_volatile(1);
            libc::madvise(self.block.as_ptr().cast(), BLOCK_LEN, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and not used any more.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), Self::LEN) };
    }
}
