# Pages straight from the system: what is held in them does not lie between others' objects in the heap, and goes back
# whole. Inline C: there is no module behind this file.

cdef extern from * nogil:
    """
    #ifndef NETSTACK_PAGES
    #define NETSTACK_PAGES
    #include <string.h>
    #include <sys/mman.h>
    #ifndef MAP_NORESERVE
    #define MAP_NORESERVE 0
    #endif
    #if defined(__SANITIZE_ADDRESS__)
    #define PAGES_WANTED 0
    #else
    #define PAGES_WANTED 1
    #endif
    static inline void *pages_map_large(size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    static inline void *pages_map(size_t size) {
        void *p = pages_map_large(size);
    #ifdef MADV_NOHUGEPAGE
        if (p != NULL) madvise(p, size, MADV_NOHUGEPAGE);
    #endif
        return p;
    }
    static inline void pages_unmap(void *p, size_t size) { munmap(p, size); }
    static inline void *pages_grow(void *p, size_t size, size_t bigger) {
    #ifdef MREMAP_MAYMOVE
        void *q = mremap(p, size, bigger, MREMAP_MAYMOVE);
        return q == MAP_FAILED ? NULL : q;
    #else
        void *q = pages_map_large(bigger);
        if (q != NULL) {
            memcpy(q, p, size);
            munmap(p, size);
        }
        return q;
    #endif
    }
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
    # with them, where the system thinks so: for what is filled from end to end
    void *pages_map_large(size_t size)
    # the same bytes and more, perhaps elsewhere; NULL without memory (nothing has changed then)
    void *pages_grow(void *p, size_t size, size_t bigger)
    void pages_unmap(void *p, size_t size)
    # their memory goes back to the system, the addresses are kept
    void pages_drop(void *p, size_t size)
