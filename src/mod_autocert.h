/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file mod_autocert.h
 * The public, installed header of mod_autocert: what another httpd module
 * needs to keep certificates elsewhere than in a directory, or to decide which names
 * may have one.
 *
 * A cache provider is registered with
 *
 *     ap_register_provider(pool, AUTOCERT_CACHE_PROVIDER_GROUP, "kind",
 *                          AUTOCERT_CACHE_PROVIDER_VERSION, &provider);
 *
 * and is then chosen with "AutocertCache kind:argument".
 */
#ifndef MOD_AUTOCERT_H
#define MOD_AUTOCERT_H

#include <apr_pools.h>
#include <apr_time.h>
#include <apr_user.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Provider group and version for ap_register_provider(). The version is
 * raised when a provider made for the old one would no longer work. */
#define AUTOCERT_CACHE_PROVIDER_GROUP "autocert-cache"
#define AUTOCERT_CACHE_PROVIDER_VERSION "0"

/** Largest value that is ever stored or read, in bytes. */
#define AUTOCERT_CACHE_VALUE_MAX (1024 * 1024)

/**
 * Two sets of keys that never collide. SHARED holds what other programs know
 * (the keys of Go's autocert); PRIVATE holds the module's own records, which
 * other readers of the store should not stumble over.
 */
typedef enum {
    AUTOCERT_CACHE_SHARED,
    AUTOCERT_CACHE_PRIVATE
} autocert_cache_space_t;

/** The user that httpd's children run as. */
typedef struct autocert_cache_user_t {
    apr_uid_t uid;              /* User */
    apr_gid_t gid;              /* Group */
    int is_root;                /* the caller is root and becomes this user later */
} autocert_cache_user_t;

/** Identity of one stored value; a changed value has a changed identity. */
typedef struct autocert_cache_stat_t {
    apr_off_t size;             /* bytes */
    apr_time_t mtime;           /* microseconds since the epoch */
    apr_uint64_t serial;        /* anything else that changes with the value: inode, version */
} autocert_cache_stat_t;

/** One opened store; each provider defines its own. */
typedef struct autocert_cache_t autocert_cache_t;

/** One lock that is held; each provider defines its own. */
typedef struct autocert_cache_lock_t autocert_cache_lock_t;

/** Called for each key by list(); a status other than APR_SUCCESS ends the
 * listing and becomes list()'s own. The key is valid during the call only. */
typedef apr_status_t autocert_cache_list_fn(void *baton, const char *key);

/**
 * A kind of certificate store.
 *
 * What callers guarantee: keys are 1 to 255 bytes of printable ASCII without
 * \ / : * ? " < > | and do not begin with a dot; values have at most
 * AUTOCERT_CACHE_VALUE_MAX bytes. Keys of the shared space are those of Go's
 * autocert package: "example.org", "example.org+rsa", "example.org+token",
 * "TOKEN+http-01", "acme_account+key".
 *
 * What a provider guarantees: every function but check(), prepare(), open()
 * and close() may be called by any number of threads of any number of
 * processes at the same time, and may block on its store, so it is given a
 * pool of the calling thread. A reader sees a value whole, old or new, never
 * mixed or empty. What put() stored with APR_SUCCESS survives a power loss.
 * Values hold private keys: nobody but the User of httpd may read them.
 */
typedef struct autocert_cache_provider_t {
    /**
     * Judge an argument at configuration time: called by "apachectl -t" as any
     * user. Writes nothing, opens no network connection.
     * @param warning set to a sentence when the store will probably not work
     *        for the user, else left alone
     * @return NULL, or the sentence that says what to write instead
     */
    const char *(*check)(const char *argument, const autocert_cache_user_t *user,
                         const char **warning, apr_pool_t *pool);
    /**
     * Make the place, in the parent process, once for each start and graceful
     * restart. May be root: must not open, create or change anything inside
     * what already exists.
     * @param warning as for check()
     * @return an error is logged; the server starts all the same
     */
    apr_status_t (*prepare)(const char *argument, const autocert_cache_user_t *user,
                            const char **warning, apr_pool_t *pool);
    /** Open the store in a child process. It lives as long as the pool or until
     * close(). No store yet is not an error: get() then misses. */
    apr_status_t (*open)(autocert_cache_t **cache, const char *argument, apr_pool_t *pool);
    /**
     * Read a value.
     * @param data set to the value, NUL added behind it, in the pool
     * @return APR_NOTFOUND when there is none: a miss, not an error;
     *         APR_ENOSPC when it is larger than AUTOCERT_CACHE_VALUE_MAX
     */
    apr_status_t (*get)(autocert_cache_t *cache, autocert_cache_space_t space,
                        const char *key, char **data, apr_size_t *len, apr_pool_t *pool);
    /** Store a value, all or nothing, durably; replaces an older one. */
    apr_status_t (*put)(autocert_cache_t *cache, autocert_cache_space_t space,
                        const char *key, const char *data, apr_size_t len, apr_pool_t *pool);
    /** Forget a value; one that is not there is APR_SUCCESS. */
    apr_status_t (*remove)(autocert_cache_t *cache, autocert_cache_space_t space,
                           const char *key, apr_pool_t *pool);
    /** Call fn for every key of the space, in any order. Keys that come or go
     * meanwhile may or may not be seen. */
    apr_status_t (*list)(autocert_cache_t *cache, autocert_cache_space_t space,
                         autocert_cache_list_fn *fn, void *baton, apr_pool_t *pool);
    /** Identity of a value without reading it; APR_NOTFOUND as get(). */
    apr_status_t (*stat)(autocert_cache_t *cache, autocert_cache_space_t space,
                         const char *key, autocert_cache_stat_t *st, apr_pool_t *pool);
    /**
     * Try to lock a key against all other processes that share the store;
     * never waits. The caller sees to it that one process asks once for one key
     * at a time. The lock ends with unlock() or with the death of the process.
     * @return APR_EBUSY when another process holds it
     */
    apr_status_t (*lock)(autocert_cache_t *cache, const char *key,
                         autocert_cache_lock_t **lock, apr_pool_t *pool);
    /** Give a lock back; any thread of the process may do it. */
    void (*unlock)(autocert_cache_t *cache, autocert_cache_lock_t *lock);
    /** Release what open() took; also called when open()'s pool ends. */
    void (*close)(autocert_cache_t *cache);
} autocert_cache_provider_t;

struct server_rec;

/**
 * May a name that no AutocertDomain lists have a certificate? An optional hook, asked after the vhost's own
 * AutocertHostPolicy lines, in each vhost that mod_autocert manages:
 *
 *     APR_OPTIONAL_HOOK(autocert, host_policy, fn, NULL, NULL, APR_HOOK_MIDDLE);   (apr_optional_hooks.h)
 *
 * It is called in handshakes, by any thread of any child, for each unknown name that any client sends, and
 * again by other threads before a certificate is ordered or renewed: it must be quick, must not block, and
 * must not keep anything for each name it is asked about.
 * @param s the vhost
 * @param name lower case A-labels, without a trailing dot, already found to be a host name
 * @return OK (0): yes; DECLINED (-1): no opinion, the next one is asked; anything else: no
 */
typedef int autocert_HOOK_host_policy_t(struct server_rec *s, const char *name);

#ifdef __cplusplus
}
#endif
#endif /* MOD_AUTOCERT_H */
