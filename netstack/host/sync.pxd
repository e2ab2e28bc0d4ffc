# Threads: POSIX mutexes and conditions, flags that two threads share, and what a thread of ours sets up for itself.
cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_t:
        pass
    int pthread_create(pthread_t *, void *, void *(*)(void *) noexcept nogil, void *)
    int pthread_join(pthread_t, void **)
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_signal(pthread_cond_t *)
    int pthread_cond_destroy(pthread_cond_t *)

cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    #ifdef __linux__
    #include <sys/prctl.h>
    #endif
    #define flag_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define flag_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    static inline void thread_setup(void) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
    #ifdef PR_SET_TIMERSLACK
        prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    #endif
    }
    """
    int flag_load(int *p) noexcept nogil
    void flag_store(int *p, int v) noexcept nogil
    # Signals are the main thread's business, and timers should fire when they say.
    void thread_setup() noexcept nogil
