/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 * A table cut into shards; each shard has a lock, an open hash and a list in the
 * order of use:
 *
 *     shard --> bucket[] --> slot --> slot        one slot for each name and kind of key
 *                             |
 *                             v
 *                           held                  one parsed certificate, counted references
 *
 * A slot belongs to its shard and is touched under the shard's lock only. What it
 * holds never changes once it is shared and outlives the slot while a handshake
 * uses it. Under the lock there is nothing but pointers and numbers: the cache, the
 * parser and every free of OpenSSL's objects come before or after.
 */
#include "serve/certs.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "base/error.h"
#include "base/hostname.h"
#include "base/log.h"
#include "manager/ledger.h"

#define SHARDS_MAX 16u              /* a power of two */
#define BUCKET_BYTES 2048u          /* one bucket for this much of the bound */
#define BUCKETS_MIN 64u             /* of one shard, a power of two */
#define BUCKETS_MAX 65536u          /* of one shard, a power of two */
#define DER_FACTOR 6u               /* a parsed object takes about this many times its DER */
#define KEY_FACTOR 30u              /* a parsed key, in multiples of EVP_PKEY_size() */
#define STATUS_TEXT_SIZE 128u

/* One certificate. The table's slot has one reference, each handshake has one. */
typedef struct held_t {
    serve_certs_entry_t entry;      /* first: what callers see */
    crypto_bundle_t *bundle;        /* the same as the entry's, to free it */
    apr_size_t bytes;               /* estimated */
    atomic_int orphaned;            /* the cache has no good file of it any more */
    atomic_uint visited;            /* second of the last visit that was noted */
    atomic_uint refs;
} held_t;

/* Identity of a cache file before it was read. */
typedef struct file_t {
    apr_status_t status;            /* SUCCESS, NOTFOUND, anything else: not known */
    autocert_cache_stat_t st;       /* with SUCCESS */
} file_t;

typedef struct slot_t slot_t;
struct slot_t {
    slot_t *next;                   /* of its bucket */
    slot_t *newer;                  /* in the order of use */
    slot_t *older;
    unsigned int hash;
    int rsa;
    held_t *held;                   /* NULL: there was none that can serve */
    apr_uint32_t version;           /* read before the file was */
    file_t file;
    apr_time_t checked;             /* last comparison with the cache */
    apr_uint64_t stored;            /* number of the store() that filled it */
    int loading;                    /* a thread is at it */
    apr_size_t bytes;               /* counted for it in the total */
    char name[];
};

typedef struct shard_t {
    apr_thread_mutex_t *mutex;
    slot_t **buckets;
    slot_t *newest;
    slot_t *oldest;
    apr_uint64_t stores;            /* so far */
    apr_size_t entries;
} shard_t;

/* A chain certificate that entries share; SERVE_CERTS_SHARED_MAX of them. */
typedef struct shared_cert_t {
    X509 *cert;
    apr_uint64_t used;              /* larger: later */
    unsigned char digest[SHA256_DIGEST_LENGTH];
} shared_cert_t;

struct serve_certs_t {
    cache_t *cache;
    shared_versions_t *versions;
    apr_size_t bound;
    atomic_size_t bytes;            /* of all shards */
    shard_t *shards;
    unsigned int shard_count;       /* a power of two */
    unsigned int bucket_count;      /* of each shard, a power of two */
    base_log_limit_t reports;       /* AC0310 */
    apr_thread_mutex_t *shared_mutex;
    shared_cert_t shared[SERVE_CERTS_SHARED_MAX];
    apr_uint64_t shared_clock;
};

/* Who is looked for. */
typedef struct query_t {
    const manager_policy_name_t *name;
    int rsa;
    unsigned int hash;
    apr_uint32_t version;
    apr_time_t now;
} query_t;

/* What the table knew. */
typedef enum {
    ANSWER_USE,                     /* good as it is, or another thread is at it */
    ANSWER_COMPARE,                 /* look whether the file is still the same */
    ANSWER_LOAD                     /* read it */
} answer_t;

typedef struct known_t {
    answer_t answer;
    held_t *held;                   /* with a reference, may be NULL and may be expired */
    file_t file;
    apr_uint64_t stored;            /* 0: there was no slot */
    int loader;                     /* the slot says that this thread is at it */
} known_t;

/* Why a file is not good. */
typedef enum {
    TROUBLE_NONE,
    TROUBLE_MISSING,                /* worth a word only if there was one before */
    TROUBLE_UNREADABLE,             /* the cache failed */
    TROUBLE_BAD,                    /* it cannot serve, at no time */
    TROUBLE_UNTIMELY                /* expired or not valid yet */
} trouble_t;

/* What the cache gave. */
typedef struct loaded_t {
    held_t *held;                   /* with NONE and UNTIMELY, else NULL */
    file_t file;
    trouble_t trouble;
    base_error_t err;
} loaded_t;

/* --- certificates and their references --- */

static int is_usable(const held_t *held, apr_time_t now)
{
    return held != NULL && held->bundle->not_before <= now && now <= held->bundle->not_after;
}

static held_t *take_reference(held_t *held)
{
    if (held != NULL) {
        atomic_fetch_add_explicit(&held->refs, 1, memory_order_relaxed);
    }
    return held;
}

static void drop_reference(held_t *held)
{
    if (held == NULL || atomic_fetch_sub_explicit(&held->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    crypto_bundle_free(held->bundle);
    free(held);
}

/* The reference passed in becomes the caller's, or ends here. */
static held_t *only_usable(held_t *held, apr_time_t now)
{
    if (is_usable(held, now)) {
        return held;
    }
    drop_reference(held);
    return NULL;
}

static apr_size_t measure_cert(X509 *cert)
{
    int len = i2d_X509(cert, NULL);

    return len > 0 ? (apr_size_t)len * DER_FACTOR : 0;
}

/*
 * Put the known one in the place of an equal certificate, or make it known.
 * @return non-zero when the known one is used
 */
static int share_cert(serve_certs_t *certs, X509 **cert)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    shared_cert_t *place = &certs->shared[0];
    X509 *known = NULL, *dropped = NULL;
    int i;

    if (!X509_digest(*cert, EVP_sha256(), digest, NULL)) {
        return 0;
    }
    apr_thread_mutex_lock(certs->shared_mutex);
    for (i = 0; i < SERVE_CERTS_SHARED_MAX; i++) {
        shared_cert_t *other = &certs->shared[i];

        if (other->cert != NULL && memcmp(other->digest, digest, sizeof(other->digest)) == 0) {
            known = X509_up_ref(other->cert) ? other->cert : NULL;
            place = other;
            break;
        }
        if (other->used < place->used) {
            place = other;
        }
    }
    if (known == NULL && X509_up_ref(*cert)) {
        dropped = place->cert;
        place->cert = *cert;
        memcpy(place->digest, digest, sizeof(place->digest));
    }
    place->used = ++certs->shared_clock;
    apr_thread_mutex_unlock(certs->shared_mutex);

    X509_free(dropped);
    if (known == NULL) {
        return 0;
    }
    X509_free(*cert);
    *cert = known;
    return 1;
}

/* Make a bundle fit for many threads; it is the result's then. NULL without memory. */
static held_t *make_held(serve_certs_t *certs, crypto_bundle_t *bundle, int test)
{
    held_t *held = calloc(1, sizeof(*held));
    int i;

    if (held == NULL) {
        return NULL;
    }
    held->bytes = sizeof(*held) + sizeof(*bundle) + measure_cert(bundle->leaf);
    if (EVP_PKEY_size(bundle->key) > 0) {
        held->bytes += (apr_size_t)EVP_PKEY_size(bundle->key) * KEY_FACTOR;
    }
    /* The first look at its extensions writes into an X509: here, while it is ours alone. */
    X509_check_purpose(bundle->leaf, -1, 0);
    for (i = 0; i < sk_X509_num(bundle->chain); i++) {
        X509 *cert = sk_X509_value(bundle->chain, i);

        X509_check_purpose(cert, -1, 0);
        if (!share_cert(certs, &cert)) {
            held->bytes += measure_cert(cert);
        }
        sk_X509_set(bundle->chain, i, cert);
    }
    held->bundle = bundle;
    held->entry.bundle = bundle;
    held->entry.test = test;
    atomic_init(&held->orphaned, 0);
    atomic_init(&held->visited, 0);
    atomic_init(&held->refs, 1);
    return held;
}

/* --- the table; what follows is called with the shard's lock --- */

static shard_t *choose_shard(const serve_certs_t *certs, const query_t *query)
{
    /* The upper bits: the lower ones choose the bucket. */
    return &certs->shards[(query->hash >> 24) & (certs->shard_count - 1)];
}

static slot_t **find_place(const serve_certs_t *certs, const shard_t *shard, unsigned int hash,
                           int rsa, const char *name)
{
    slot_t **place = &shard->buckets[hash & (certs->bucket_count - 1)];

    while (*place != NULL
           && ((*place)->hash != hash || (*place)->rsa != rsa
               || strcmp((*place)->name, name) != 0)) {
        place = &(*place)->next;
    }
    return place;
}

static slot_t *find_slot(const serve_certs_t *certs, const shard_t *shard, const query_t *query)
{
    return *find_place(certs, shard, query->hash, query->rsa, query->name->name);
}

static void unlink_from_order(shard_t *shard, slot_t *slot)
{
    *(slot->newer != NULL ? &slot->newer->older : &shard->newest) = slot->older;
    *(slot->older != NULL ? &slot->older->newer : &shard->oldest) = slot->newer;
}

static void link_as_newest(shard_t *shard, slot_t *slot)
{
    slot->newer = NULL;
    slot->older = shard->newest;
    *(shard->newest != NULL ? &shard->newest->newer : &shard->oldest) = slot;
    shard->newest = slot;
}

static void note_use(shard_t *shard, slot_t *slot)
{
    if (shard->newest != slot) {
        unlink_from_order(shard, slot);
        link_as_newest(shard, slot);
    }
}

static void count_bytes(serve_certs_t *certs, slot_t *slot, apr_size_t bytes)
{
    /* Unsigned: the difference may be a negative one. */
    atomic_fetch_add(&certs->bytes, bytes - slot->bytes);
    slot->bytes = bytes;
}

static void insert_slot(serve_certs_t *certs, shard_t *shard, slot_t *slot)
{
    *find_place(certs, shard, slot->hash, slot->rsa, slot->name) = slot;
    link_as_newest(shard, slot);
    shard->entries++;
}

/* Take the least recently used out until the table fits its bound; the newest stays.
 * @return a list of them, to be freed without the lock */
static slot_t *evict(serve_certs_t *certs, shard_t *shard)
{
    slot_t *evicted = NULL;

    while (atomic_load(&certs->bytes) > certs->bound && shard->oldest != shard->newest) {
        slot_t *slot = shard->oldest;

        *find_place(certs, shard, slot->hash, slot->rsa, slot->name) = slot->next;
        unlink_from_order(shard, slot);
        shard->entries--;
        count_bytes(certs, slot, 0);
        slot->next = evicted;
        evicted = slot;
    }
    return evicted;
}

/* --- without the lock again --- */

static void free_slots(slot_t *slot)
{
    while (slot != NULL) {
        slot_t *next = slot->next;

        drop_reference(slot->held);
        free(slot);
        slot = next;
    }
}

static slot_t *make_slot(const query_t *query)
{
    apr_size_t len = strlen(query->name->name) + 1;
    slot_t *slot = calloc(1, sizeof(*slot) + len);

    if (slot != NULL) {
        slot->hash = query->hash;
        slot->rsa = query->rsa;
        memcpy(slot->name, query->name->name, len);
    }
    return slot;
}

static void make_query(query_t *query, const manager_policy_name_t *name, apr_time_t now)
{
    query->name = name;
    query->rsa = crypto_key_type_is_rsa(manager_policy_key_type(name));
    query->hash = base_hostname_hash(name->name);
    query->version = 0;
    query->now = now;
}

static int is_due(const slot_t *slot, apr_time_t now)
{
    /* A clock that was set back makes it due as well. */
    return now < slot->checked || now - slot->checked >= SERVE_CERTS_RECHECK;
}

/* What is to be done about a slot; marks it when it is for this thread to do. */
static answer_t judge_slot(slot_t *slot, const query_t *query, int *loader)
{
    int same = slot->version == query->version;

    if (same && !is_due(slot, query->now)) {
        return ANSWER_USE;
    }
    /* Another thread is at it and the old answer will do meanwhile. "None" is an old
     * answer only if nobody said since that there is one: a client that waited
     * for it would be sent away otherwise. */
    if (slot->loading && (is_usable(slot->held, query->now) || (same && slot->held == NULL))) {
        return ANSWER_USE;
    }
    if (!slot->loading) {
        slot->loading = *loader = 1;
    }
    return same ? ANSWER_COMPARE : ANSWER_LOAD;
}

static void look_up(serve_certs_t *certs, const query_t *query, known_t *known)
{
    shard_t *shard = choose_shard(certs, query);
    slot_t *slot;

    memset(known, 0, sizeof(*known));
    known->answer = ANSWER_LOAD;
    apr_thread_mutex_lock(shard->mutex);
    slot = find_slot(certs, shard, query);
    if (slot != NULL) {
        note_use(shard, slot);
        known->answer = judge_slot(slot, query, &known->loader);
        known->held = take_reference(slot->held);
        known->file = slot->file;
        known->stored = slot->stored;
    }
    apr_thread_mutex_unlock(shard->mutex);
}

/* Note that the file was looked at and nothing was changed by it.
 * @param compared it is the file that was read */
static void finish_unchanged(serve_certs_t *certs, const query_t *query, const known_t *known,
                             int compared)
{
    shard_t *shard = choose_shard(certs, query);
    slot_t *slot;

    apr_thread_mutex_lock(shard->mutex);
    slot = find_slot(certs, shard, query);
    if (slot != NULL) {
        if (compared && slot->stored == known->stored) {
            slot->checked = query->now;
        }
        if (known->loader) {
            slot->loading = 0;
        }
    }
    apr_thread_mutex_unlock(shard->mutex);
}

/* --- reading the cache --- */

static int is_same_file(const file_t *a, const file_t *b)
{
    if (a->status != b->status) {
        return 0;
    }
    if (a->status == APR_SUCCESS) {
        return a->st.size == b->st.size && a->st.mtime == b->st.mtime
               && a->st.serial == b->st.serial;
    }
    return a->status == APR_NOTFOUND;
}

/* Could it serve, and if not, is only the date to blame? The file may become good without being
 * changed then. */
static trouble_t judge_bundle(const crypto_bundle_t *bundle, const query_t *query,
                              base_error_t *err)
{
    base_error_t other;
    apr_time_t in_time;

    if (crypto_bundle_check(bundle, query->name->name, query->rsa, query->now, err)
        == APR_SUCCESS) {
        return TROUBLE_NONE;
    }
    if (bundle->not_before <= query->now && query->now <= bundle->not_after) {
        return TROUBLE_BAD;
    }
    in_time = query->now < bundle->not_before ? bundle->not_before : bundle->not_after;
    if (crypto_bundle_check(bundle, query->name->name, query->rsa, in_time, &other)
        != APR_SUCCESS) {
        *err = other;
        return TROUBLE_BAD;
    }
    return TROUBLE_UNTIMELY;
}

static trouble_t parse(serve_certs_t *certs, const query_t *query, const char *key, const char *data,
                       apr_size_t len, loaded_t *loaded, apr_pool_t *pool)
{
    crypto_bundle_t *bundle = NULL;
    manager_ledger_t ledger;
    trouble_t trouble;

    if (crypto_bundle_parse(&bundle, data, len, &loaded->err) != APR_SUCCESS) {
        return TROUBLE_BAD;
    }
    trouble = judge_bundle(bundle, query, &loaded->err);
    if (trouble != TROUBLE_BAD) {
        manager_ledger_load(&ledger, certs->cache, key, pool);
        loaded->held = make_held(certs, bundle, ledger.test && manager_ledger_is_about(&ledger, bundle));
        if (loaded->held == NULL) {
            base_error_set(&loaded->err, BASE_ERROR_LOCAL, APR_ENOMEM, "no memory");
            trouble = TROUBLE_UNREADABLE;
        }
    }
    if (loaded->held == NULL) {
        crypto_bundle_free(bundle);
    }
    return trouble;
}

static void load(serve_certs_t *certs, const query_t *query, const char *key, loaded_t *loaded,
                 apr_pool_t *pool)
{
    char *data = NULL, text[STATUS_TEXT_SIZE];
    apr_size_t len = 0;
    apr_status_t status;

    status = cache_get(certs->cache, AUTOCERT_CACHE_SHARED, key, &data, &len, pool);
    if (status == APR_SUCCESS) {
        loaded->trouble = parse(certs, query, key, data, len, loaded, pool);
        OPENSSL_cleanse(data, len);
        ERR_clear_error();
    } else if (status == APR_NOTFOUND) {
        loaded->trouble = TROUBLE_MISSING;
        base_error_set(&loaded->err, BASE_ERROR_LOCAL, status, "it is gone");
    } else {
        loaded->trouble = TROUBLE_UNREADABLE;
        base_error_set(&loaded->err, BASE_ERROR_LOCAL, status, "it cannot be read: %s",
                       apr_strerror(status, text, sizeof(text)));
    }
    if (loaded->trouble == TROUBLE_UNREADABLE) {
        loaded->file.status = APR_EGENERAL;     /* so that the next comparison reads it again */
    }
}

/* --- what was read goes into the table --- */

/* Fill the slot; what falls out of it comes back. With the lock. */
static held_t *fill_slot(serve_certs_t *certs, shard_t *shard, slot_t *slot,
                         const query_t *query, const known_t *known, loaded_t *loaded)
{
    held_t *dropped = loaded->held;

    if (slot->held == NULL) {
        slot->held = take_reference(known->held);   /* it was evicted meanwhile */
    }
    slot->version = query->version;
    slot->checked = query->now;
    slot->stored = ++shard->stores;
    slot->file = loaded->file;
    if (loaded->trouble == TROUBLE_UNTIMELY && is_usable(slot->held, query->now)) {
        slot->file.status = APR_EGENERAL;       /* its time may come */
    } else if (loaded->held != NULL) {
        dropped = slot->held;
        slot->held = loaded->held;
    }
    if (loaded->trouble != TROUBLE_NONE && slot->held != NULL) {
        atomic_store(&slot->held->orphaned, 1);
    }
    loaded->held = NULL;
    count_bytes(certs, slot, sizeof(*slot) + strlen(slot->name) + 1
                             + (slot->held != NULL ? slot->held->bytes : 0));
    return dropped;
}

/*
 * Store what was loaded, unless another thread stored something at least as new in
 * the meantime. @return what is in service now, with a reference, or NULL
 * @param fresh set when it was stored
 */
static held_t *store(serve_certs_t *certs, const query_t *query, const known_t *known,
                     loaded_t *loaded, int *fresh)
{
    shard_t *shard = choose_shard(certs, query);
    slot_t *spare = make_slot(query), *evicted = NULL, *slot;
    held_t *dropped = NULL, *result;

    apr_thread_mutex_lock(shard->mutex);
    slot = find_slot(certs, shard, query);
    *fresh = slot == NULL || slot->stored == known->stored
             || (apr_int32_t)(query->version - slot->version) > 0;
    if (slot == NULL && spare != NULL) {
        slot = spare;
        spare = NULL;
        insert_slot(certs, shard, slot);
    }
    if (slot != NULL) {
        if (*fresh) {
            dropped = fill_slot(certs, shard, slot, query, known, loaded);
        }
        if (known->loader) {
            slot->loading = 0;
        }
        note_use(shard, slot);
        result = take_reference(slot->held);
        evicted = evict(certs, shard);
    } else {
        /* No memory for a slot: serve what was read this once. */
        result = take_reference(loaded->held != NULL ? loaded->held : known->held);
    }
    apr_thread_mutex_unlock(shard->mutex);

    drop_reference(dropped);
    drop_reference(loaded->held);
    loaded->held = NULL;
    free_slots(evicted);
    free(spare);
    return only_usable(result, query->now);
}

/* Log why a file is not used, not more often than SERVE_CERTS_REPORT_EVERY. */
static void report(serve_certs_t *certs, const query_t *query, const char *key,
                   const loaded_t *loaded, int kept)
{
    char others[BASE_LOG_OTHERS_SIZE];
    const char *next = "it is obtained again";

    if (!base_log_limit(&certs->reports, apr_time_sec(query->now),
                        (unsigned int)apr_time_sec(SERVE_CERTS_REPORT_EVERY), others)) {
        return;
    }
    if (kept) {
        next = "the certificate in memory stays in service";
    } else if (loaded->trouble == TROUBLE_UNREADABLE) {
        next = "it is read again when the next client comes";
    }
    base_log(BASE_LOG_WARNING, "AC0310", query->name->name, "cache file %s is not used: %s%s; %s",
             key, loaded->err.detail, others, next);
}

/* Compare with the cache and read it if need be. The reference in known is used up. */
static held_t *refresh(serve_certs_t *certs, const query_t *query, known_t *known)
{
    apr_pool_t *pool = NULL;
    held_t *result = NULL;
    loaded_t loaded;
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    int fresh;

    memset(&loaded, 0, sizeof(loaded));
    /* Not a child of any other pool: those belong to other threads. */
    if (apr_pool_create_unmanaged(&pool) != APR_SUCCESS) {
        finish_unchanged(certs, query, known, 0);
        return only_usable(known->held, query->now);
    }
    manager_policy_cache_key(query->name, key);
    /* Before it is read: what is replaced in between is noticed the next time. */
    loaded.file.status = cache_stat(certs->cache, AUTOCERT_CACHE_SHARED, key, &loaded.file.st,
                                    pool);
    if (known->answer == ANSWER_COMPARE && is_same_file(&known->file, &loaded.file)) {
        finish_unchanged(certs, query, known, 1);
        result = only_usable(known->held, query->now);
    } else {
        load(certs, query, key, &loaded, pool);
        result = store(certs, query, known, &loaded, &fresh);
        if (fresh && loaded.trouble != TROUBLE_NONE
            && (loaded.trouble != TROUBLE_MISSING || result != NULL)) {
            report(certs, query, key, &loaded, result != NULL);
        }
        drop_reference(known->held);
    }
    apr_pool_destroy(pool);
    return result;
}

/* --- the contract --- */

const serve_certs_entry_t *serve_certs_acquire(serve_certs_t *certs,
                                               const manager_policy_name_t *name, apr_time_t now)
{
    query_t query;
    known_t known;
    held_t *held;

    make_query(&query, name, now);
    /* Before the cache is read: a change in between makes the result stale, not lost. */
    query.version = shared_versions_get(certs->versions, name->name);
    look_up(certs, &query, &known);
    held = known.answer == ANSWER_USE ? only_usable(known.held, now)
                                      : refresh(certs, &query, &known);
    return held != NULL ? &held->entry : NULL;
}

const serve_certs_entry_t *serve_certs_peek(serve_certs_t *certs,
                                            const manager_policy_name_t *name, apr_time_t now)
{
    query_t query;
    shard_t *shard;
    slot_t *slot;
    held_t *held = NULL;

    make_query(&query, name, now);
    shard = choose_shard(certs, &query);
    apr_thread_mutex_lock(shard->mutex);
    slot = find_slot(certs, shard, &query);
    if (slot != NULL && is_usable(slot->held, now)) {
        note_use(shard, slot);
        held = take_reference(slot->held);
    }
    apr_thread_mutex_unlock(shard->mutex);
    return held != NULL ? &held->entry : NULL;
}

int serve_certs_is_orphaned(const serve_certs_entry_t *entry)
{
    return atomic_load(&((const held_t *)entry)->orphaned);
}

int serve_certs_note_visit(const serve_certs_entry_t *entry, apr_time_t now, apr_interval_time_t every)
{
    held_t *held = (held_t *)entry;
    unsigned int second = (unsigned int)apr_time_sec(now);
    unsigned int last = atomic_load_explicit(&held->visited, memory_order_relaxed);

    /* Unsigned: a clock that was set back counts as a visit. */
    return (last == 0 || second - last >= (unsigned int)apr_time_sec(every))
        && atomic_compare_exchange_strong(&held->visited, &last, second ? second : 1);
}

void serve_certs_release(serve_certs_t *certs, const serve_certs_entry_t *entry)
{
    (void)certs;
    drop_reference((held_t *)entry);    /* its first member */
}

void serve_certs_stats(serve_certs_t *certs, apr_size_t *entries, apr_size_t *bytes)
{
    unsigned int i;

    *entries = 0;
    for (i = 0; i < certs->shard_count; i++) {
        apr_thread_mutex_lock(certs->shards[i].mutex);
        *entries += certs->shards[i].entries;
        apr_thread_mutex_unlock(certs->shards[i].mutex);
    }
    *bytes = atomic_load(&certs->bytes);
}

static apr_status_t free_all(void *data)
{
    serve_certs_t *certs = data;
    unsigned int i;
    int k;

    for (i = 0; i < certs->shard_count; i++) {
        slot_t *slot = certs->shards[i].newest;

        while (slot != NULL) {
            slot_t *older = slot->older;

            drop_reference(slot->held);
            free(slot);
            slot = older;
        }
        certs->shards[i].newest = certs->shards[i].oldest = NULL;
    }
    for (k = 0; k < SERVE_CERTS_SHARED_MAX; k++) {
        X509_free(certs->shared[k].cert);
        certs->shared[k].cert = NULL;
    }
    return APR_SUCCESS;
}

apr_status_t serve_certs_create(serve_certs_t **certs, cache_t *cache,
                                shared_versions_t *versions, apr_size_t bytes, int threads,
                                apr_pool_t *pool)
{
    serve_certs_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t status;
    unsigned int i;

    made->cache = cache;
    made->versions = versions;
    made->bound = bytes;
    atomic_init(&made->bytes, 0);
    made->shard_count = 1;
    while (made->shard_count < SHARDS_MAX && (int)made->shard_count < threads) {
        made->shard_count *= 2;
    }
    made->bucket_count = BUCKETS_MIN;
    while (made->bucket_count < BUCKETS_MAX
           && made->bucket_count < bytes / BUCKET_BYTES / made->shard_count) {
        made->bucket_count *= 2;
    }
    status = apr_thread_mutex_create(&made->shared_mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    made->shards = apr_pcalloc(pool, made->shard_count * sizeof(*made->shards));
    for (i = 0; status == APR_SUCCESS && i < made->shard_count; i++) {
        made->shards[i].buckets = apr_pcalloc(pool, made->bucket_count * sizeof(slot_t *));
        status = apr_thread_mutex_create(&made->shards[i].mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    }
    if (status != APR_SUCCESS) {
        return status;
    }
    apr_pool_cleanup_register(pool, made, free_all, apr_pool_cleanup_null);
    *certs = made;
    return APR_SUCCESS;
}
