# Pages straight from the system: what is held in them does not lie between others' objects in the heap, and goes back
# whole. Inline C: there is no module behind this file.

cdef extern from * nogil:
    """
    #ifndef NETSTACK_PAGES
    #define NETSTACK_PAGES
    #include <sys/mman.h>
    #ifndef MAP_NORESERVE
    #define MAP_NORESERVE 0
    #endif
    #if defined(__SANITIZE_ADDRESS__)
    #define PAGES_WANTED 0
    #else
    #define PAGES_WANTED 1
    #endif
    static inline void *pages_map(size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return NULL;
    #ifdef MADV_NOHUGEPAGE
        madvise(p, size, MADV_NOHUGEPAGE);
    #endif
        return p;
    }
    static inline void pages_unmap(void *p, size_t size) { munmap(p, size); }
    static inline void pages_drop(void *p, size_t size) {
    #ifdef __APPLE__
        madvise(p, size, MADV_FREE);
    #else
        madvise(p, size, MADV_DONTNEED);
    #endif
    }
    #endif
    """
    bint PAGES_WANTED           # false where a checker of memory accesses (asan) should see each buffer by itself
    # zeroed, without huge pages: one byte must not cost 2 MiB; NULL without memory
    void *pages_map(size_t size)
    void pages_unmap(void *p, size_t size)
    # their memory goes back to the system, the addresses are kept
    void pages_drop(void *p, size_t size)
