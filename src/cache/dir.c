/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "cache/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_file_io.h>
#include <apr_general.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <openssl/crypto.h>

#include "cache/cache.h"

#define PRIVATE_DIR ".autocert"
#define LOCK_DIR "lock"
#define TEMP_PREFIX ".tmp-autocert-"
#define TEMP_RANDOM 16          /* random bytes in the name of a temporary file, as hex */
#define TEMP_NAME_SIZE (sizeof(TEMP_PREFIX) + 2 * TEMP_RANDOM)
#define TEMP_TRIES 8            /* names tried; one is enough but for broken random numbers */
#define LOCK_TRIES 3            /* opens of a lock file that others make or remove meanwhile */
#define DIR_MODE 0700
#define PARENT_MODE 0755
#define FILE_MODE 0600
#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* The directory is opened anew for each operation: it may be missing, be made or be replaced
 * at any time, and a kept descriptor would go on with the old one. */
struct autocert_cache_t {
    const char *path;
};

struct autocert_cache_lock_t {
    apr_file_t *file;
};

/* ---- directories ---- */

/* The argument without slashes at its end. */
static char *trim_path(const char *argument, apr_pool_t *pool)
{
    char *path = apr_pstrdup(pool, argument);
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/') {
        path[--len] = '\0';
    }
    return path;
}

/* What stands above a path: "/" at last. */
static char *parent_of(const char *path, apr_pool_t *pool)
{
    char *parent = apr_pstrdup(pool, path);
    char *slash = strrchr(parent, '/');

    if (!slash || slash == parent) {
        return apr_pstrdup(pool, "/");
    }
    *slash = '\0';
    return trim_path(parent, pool);
}

/* Make what was written into a directory survive a power loss. EINVAL: this file system has no
 * such operation for directories. */
static apr_status_t sync_dir(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL ? APR_SUCCESS : errno;
}

/* Make a directory with its parents. @return APR_SUCCESS when it was made now, APR_EEXIST when
 * something of this name is there */
static apr_status_t make_path(const char *path, apr_pool_t *pool)
{
    apr_status_t rv;
    size_t len = strlen(path);
    char *part = apr_pstrdup(pool, path);
    int fd;

    for (size_t i = 1; i < len; i++) {
        if (part[i] == '/') {
            part[i] = '\0';
            if (mkdir(part, PARENT_MODE) != 0 && errno == ENOTDIR) {
                return errno;
            }
            part[i] = '/';
        }
    }
    if (mkdir(path, DIR_MODE) != 0) {
        return errno;
    }
    fd = open(parent_of(path, pool), OPEN_DIR);
    if (fd < 0) {
        return APR_SUCCESS;     /* a parent that cannot be read cannot be synced */
    }
    rv = sync_dir(fd);
    close(fd);
    return rv;
}

/*
 * Root (an administrator's tool) must not leave files behind that the server's user cannot
 * read: what it makes inside gets the directory's owner. Only a descriptor of something
 * made by this process, exclusively, may be passed: another file could be a link that the
 * user has put there.
 */
static apr_status_t give_to_owner(int fd, int dirfd)
{
    struct stat st;

    if (geteuid() != 0) {
        return APR_SUCCESS;
    }
    if (fstat(dirfd, &st) != 0) {
        return errno;
    }
    if (st.st_uid != 0 && fchown(fd, st.st_uid, st.st_gid) != 0) {
        return errno;
    }
    return APR_SUCCESS;
}

/* Open a directory inside another, making it when asked to; parent is closed. */
static apr_status_t step_into(int *fd, int parent, const char *name, int make)
{
    apr_status_t rv = APR_SUCCESS;
    int made = 0;

    *fd = openat(parent, name, OPEN_DIR | O_NOFOLLOW);
    if (*fd < 0 && errno == ENOENT && make) {
        made = mkdirat(parent, name, DIR_MODE) == 0;
        if (!made && errno != EEXIST) {
            rv = errno;
            goto leave;
        }
        *fd = openat(parent, name, OPEN_DIR | O_NOFOLLOW);
    }
    if (*fd < 0) {
        rv = errno;
        goto leave;
    }
    if (made) {
        rv = give_to_owner(*fd, parent);
        if (rv == APR_SUCCESS) {
            rv = sync_dir(parent);
        }
    }
leave:
    if (rv != APR_SUCCESS && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    close(parent);
    return rv;
}

/* Open the directory of a space; with make, what is missing is made. */
static apr_status_t open_space(int *fd, const autocert_cache_t *cache,
                               autocert_cache_space_t space, int make, apr_pool_t *pool)
{
    int root = open(cache->path, OPEN_DIR);

    *fd = -1;
    if (root < 0 && errno == ENOENT && make) {
        apr_status_t rv = make_path(cache->path, pool);

        if (rv != APR_SUCCESS && !APR_STATUS_IS_EEXIST(rv)) {
            return rv;
        }
        root = open(cache->path, OPEN_DIR);
    }
    if (root < 0) {
        return errno;
    }
    if (space == AUTOCERT_CACHE_PRIVATE) {
        return step_into(fd, root, PRIVATE_DIR, make);
    }
    *fd = root;
    return APR_SUCCESS;
}

/* ---- judging and preparing ---- */

/* Non-zero when owner and mode bits let the user make files in the directory. Other groups
 * of the user are not known here. */
static int may_write(const struct stat *st, const autocert_cache_user_t *user)
{
    if (user->uid == 0) {
        return 1;
    }
    if (st->st_uid == user->uid) {
        return (st->st_mode & 0300) == 0300;
    }
    if (st->st_gid == user->gid) {
        return (st->st_mode & 0030) == 0030;
    }
    return (st->st_mode & 0003) == 0003;
}

/* "USER:GROUP" as chown takes it; numbers for what has no name. */
static const char *owner_text(const autocert_cache_user_t *user, apr_pool_t *pool)
{
    char *name = NULL;
    char *group = NULL;

    if (apr_uid_name_get(&name, user->uid, pool) != APR_SUCCESS) {
        name = apr_psprintf(pool, "%lu", (unsigned long)user->uid);
    }
    if (apr_gid_name_get(&group, user->gid, pool) != APR_SUCCESS) {
        group = apr_psprintf(pool, "%lu", (unsigned long)user->gid);
    }
    return apr_psprintf(pool, "%s:%s", name, group);
}

/* Judge a directory that does not exist: who runs as root makes it at start, anybody else
 * needs a parent that can be written. */
static const char *judge_missing(const char *path, const autocert_cache_user_t *user,
                                 const char **warning, apr_pool_t *pool)
{
    const char *parent = path;
    struct stat st;

    if (user->is_root) {
        return NULL;
    }
    do {
        parent = parent_of(parent, pool);
        if (stat(parent, &st) == 0) {
            if (!may_write(&st, user)) {
                *warning = apr_psprintf(pool, "AutocertCache directory %s does not exist and "
                    "httpd, running as uid %lu, cannot make it in %s: run \"mkdir -p -m 700 %s "
                    "&& chown %s %s\" as root", path, (unsigned long)user->uid, parent, path,
                    owner_text(user, pool), path);
            }
            return NULL;
        }
    } while (errno == ENOENT && strcmp(parent, "/") != 0);
    return NULL;
}

static const char *dir_check(const char *argument, const autocert_cache_user_t *user,
                             const char **warning, apr_pool_t *pool)
{
    const char *path;
    struct stat st;

    if (!argument || argument[0] != '/') {
        return "AutocertCache dir:PATH needs an absolute path, write for example "
               "dir:/var/lib/apache2/autocert";
    }
    path = trim_path(argument, pool);
    if (stat(path, &st) != 0) {
        if (errno == ENOTDIR) {
            return apr_psprintf(pool, "AutocertCache dir:%s stands below something that is not "
                                "a directory, write the path of a directory", path);
        }
        /* EACCES: who may not look cannot judge. */
        return errno == ENOENT ? judge_missing(path, user, warning, pool) : NULL;
    }
    if (!S_ISDIR(st.st_mode)) {
        return apr_psprintf(pool, "AutocertCache dir:%s is not a directory, write the path of a "
                            "directory", path);
    }
    if (!may_write(&st, user)) {
        *warning = apr_psprintf(pool, "AutocertCache directory %s is owned by uid %lu with mode "
            "%03o, httpd's children run as uid %lu and cannot write there: run \"chown -R %s %s "
            "&& chmod 700 %s\"", path, (unsigned long)st.st_uid, (unsigned int)st.st_mode & 0777,
            (unsigned long)user->uid, owner_text(user, pool), path, path);
    }
    return NULL;
}

/* Look at a directory that was there before; it is an administrator's, so nothing is changed. */
static apr_status_t judge_existing(const char *path, const autocert_cache_user_t *user,
                                   const char **warning, apr_pool_t *pool)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return ENOTDIR;
    }
    if (st.st_uid != user->uid) {
        *warning = apr_psprintf(pool, "AutocertCache directory %s is owned by uid %lu, but "
            "httpd's children run as uid %lu: run \"chown -R %s %s\"", path,
            (unsigned long)st.st_uid, (unsigned long)user->uid, owner_text(user, pool), path);
    }
    else if (st.st_mode & 0077) {
        *warning = apr_psprintf(pool, "AutocertCache directory %s, which holds private keys, is "
            "open to other users (mode %03o): run \"chmod 700 %s\"", path,
            (unsigned int)st.st_mode & 0777, path);
    }
    return APR_SUCCESS;
}

static apr_status_t dir_prepare(const char *argument, const autocert_cache_user_t *user,
                                const char **warning, apr_pool_t *pool)
{
    const char *path = trim_path(argument, pool);
    apr_status_t rv = make_path(path, pool);
    int fd;

    if (APR_STATUS_IS_EEXIST(rv)) {
        return judge_existing(path, user, warning, pool);
    }
    if (rv != APR_SUCCESS || geteuid() != 0) {
        return rv;
    }
    fd = open(path, OPEN_DIR | O_NOFOLLOW);
    if (fd < 0) {
        return errno;
    }
    if (fchown(fd, user->uid, user->gid) != 0) {
        rv = errno;
    }
    close(fd);
    return rv;
}

/* ---- values ---- */

static apr_status_t dir_open(autocert_cache_t **cache, const char *argument, apr_pool_t *pool)
{
    autocert_cache_t *made = apr_palloc(pool, sizeof(*made));

    made->path = trim_path(argument, pool);
    *cache = made;
    return APR_SUCCESS;
}

static void dir_close(autocert_cache_t *cache)
{
    (void)cache;    /* nothing is kept open between operations */
}

/* A missing file or directory is a miss. */
static apr_status_t as_miss(apr_status_t rv)
{
    return APR_STATUS_IS_ENOENT(rv) ? APR_NOTFOUND : rv;
}

/* Values are regular files: reading a pipe would block, a device may do anything. */
static apr_status_t judge_value(const struct stat *st)
{
    if (S_ISDIR(st->st_mode)) {
        return EISDIR;
    }
    if (!S_ISREG(st->st_mode)) {
        return APR_EINVAL;
    }
    return st->st_size > AUTOCERT_CACHE_VALUE_MAX ? APR_ENOSPC : APR_SUCCESS;
}

/* Read up to size bytes. */
static apr_status_t read_all(int fd, char *data, apr_size_t size, apr_size_t *len)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = read(fd, data + *len, size - *len);

        if (n == 0) {
            break;
        }
        if (n > 0) {
            *len += (apr_size_t)n;
        }
        else if (errno != EINTR) {
            return errno;
        }
    }
    return APR_SUCCESS;
}

/* A value in a pool: most of them hold private keys. */
typedef struct value_t {
    char *data;
    apr_size_t size;
} value_t;

static apr_status_t cleanse_value(void *data)
{
    value_t *value = data;

    OPENSSL_cleanse(value->data, value->size);
    return APR_SUCCESS;
}

/* Read an open file. It never changes under our hands: writers, ours and Go's, put a new file
 * in its place. */
static apr_status_t read_value(int fd, char **data, apr_size_t *len, apr_pool_t *pool)
{
    value_t *value;
    struct stat st;
    apr_status_t rv;

    if (fstat(fd, &st) != 0) {
        return errno;
    }
    rv = judge_value(&st);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    value = apr_palloc(pool, sizeof(*value));
    value->size = (apr_size_t)st.st_size;
    value->data = apr_palloc(pool, value->size + 1);
    apr_pool_cleanup_register(pool, value, cleanse_value, apr_pool_cleanup_null);
    rv = read_all(fd, value->data, value->size, len);
    if (rv == APR_SUCCESS) {
        value->data[*len] = '\0';
        *data = value->data;
    }
    return rv;
}

static apr_status_t dir_get(autocert_cache_t *cache, autocert_cache_space_t space,
                            const char *key, char **data, apr_size_t *len, apr_pool_t *pool)
{
    /* Shared files may be symbolic links, which Go follows; ours never are. */
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
        | (space == AUTOCERT_CACHE_PRIVATE ? O_NOFOLLOW : 0);
    apr_status_t rv;
    int dirfd = -1;
    int fd;

    rv = open_space(&dirfd, cache, space, 0, pool);
    if (rv != APR_SUCCESS) {
        return as_miss(rv);
    }
    fd = openat(dirfd, key, flags);
    rv = fd < 0 ? as_miss(errno) : APR_SUCCESS;
    close(dirfd);
    if (rv == APR_SUCCESS) {
        rv = read_value(fd, data, len, pool);
        close(fd);
    }
    return rv;
}

/* Make an empty temporary file under a name nobody else has. */
static apr_status_t make_temp(int *fd, char name[TEMP_NAME_SIZE], int dirfd)
{
    for (int i = 0; i < TEMP_TRIES; i++) {
        unsigned char random[TEMP_RANDOM];
        char *at = name + sizeof(TEMP_PREFIX) - 1;
        apr_status_t rv = apr_generate_random_bytes(random, sizeof(random));

        if (rv != APR_SUCCESS) {
            return rv;
        }
        memcpy(name, TEMP_PREFIX, sizeof(TEMP_PREFIX));
        for (size_t j = 0; j < sizeof(random); j++, at += 2) {
            snprintf(at, 3, "%02x", random[j]);
        }
        *fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                     FILE_MODE);
        if (*fd >= 0) {
            return APR_SUCCESS;
        }
        if (errno != EEXIST) {
            return errno;
        }
    }
    return APR_EEXIST;
}

/* Fill a temporary file, give it its owner and bring it to the disk. */
static apr_status_t fill_temp(int fd, int dirfd, const char *data, apr_size_t len)
{
    apr_status_t rv = give_to_owner(fd, dirfd);
    apr_size_t done = 0;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    while (done < len) {
        ssize_t n = write(fd, data + done, len - done);

        if (n > 0) {
            done += (apr_size_t)n;
        }
        else if (n == 0 || errno != EINTR) {
            return n == 0 ? APR_ENOSPC : errno;
        }
    }
    /* A umask with bits for the owner would leave a file that cannot be read. */
    if (fchmod(fd, FILE_MODE) != 0 || fsync(fd) != 0) {
        return errno;
    }
    return APR_SUCCESS;
}

static apr_status_t dir_put(autocert_cache_t *cache, autocert_cache_space_t space,
                            const char *key, const char *data, apr_size_t len, apr_pool_t *pool)
{
    char temp[TEMP_NAME_SIZE] = "";
    apr_status_t rv;
    int dirfd = -1;
    int fd = -1;

    rv = open_space(&dirfd, cache, space, 1, pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = make_temp(&fd, temp, dirfd);
    if (rv != APR_SUCCESS) {
        close(dirfd);
        return rv;
    }
    rv = fill_temp(fd, dirfd, data, len);
    if (close(fd) != 0 && rv == APR_SUCCESS) {
        rv = errno;     /* network file systems report a full disk only here */
    }
    if (rv == APR_SUCCESS && renameat(dirfd, temp, dirfd, key) != 0) {
        rv = errno;
    }
    if (rv == APR_SUCCESS) {
        rv = sync_dir(dirfd);
    }
    else {
        unlinkat(dirfd, temp, 0);
    }
    close(dirfd);
    return rv;
}

static apr_status_t dir_remove(autocert_cache_t *cache, autocert_cache_space_t space,
                               const char *key, apr_pool_t *pool)
{
    int dirfd = -1;
    apr_status_t rv = open_space(&dirfd, cache, space, 0, pool);

    if (rv == APR_SUCCESS) {
        if (unlinkat(dirfd, key, 0) != 0) {
            rv = errno;
        }
        close(dirfd);
    }
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

/* Look at an entry of a space as get() would. */
static apr_status_t stat_entry(struct stat *st, int dirfd, autocert_cache_space_t space,
                               const char *name)
{
    int flags = space == AUTOCERT_CACHE_PRIVATE ? AT_SYMLINK_NOFOLLOW : 0;

    return fstatat(dirfd, name, st, flags) == 0 ? APR_SUCCESS : errno;
}

static apr_status_t dir_list(autocert_cache_t *cache, autocert_cache_space_t space,
                             autocert_cache_list_fn *fn, void *baton, apr_pool_t *pool)
{
    int dirfd = -1;
    apr_status_t rv = open_space(&dirfd, cache, space, 0, pool);
    DIR *dir;

    if (rv != APR_SUCCESS) {
        return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
    }
    dir = fdopendir(dirfd);
    if (!dir) {
        rv = errno;
        close(dirfd);
        return rv;
    }
    while (rv == APR_SUCCESS) {
        struct dirent *entry;
        struct stat st;

        errno = 0;
        entry = readdir(dir);
        if (!entry) {
            rv = errno;
            break;
        }
        if (cache_key_is_valid(entry->d_name)
            && stat_entry(&st, dirfd, space, entry->d_name) == APR_SUCCESS
            && S_ISREG(st.st_mode)) {
            rv = fn(baton, entry->d_name);
        }
    }
    closedir(dir);
    return rv;
}

static apr_status_t dir_stat(autocert_cache_t *cache, autocert_cache_space_t space,
                             const char *key, autocert_cache_stat_t *st, apr_pool_t *pool)
{
    int dirfd = -1;
    apr_status_t rv = open_space(&dirfd, cache, space, 0, pool);
    struct stat file;

    if (rv != APR_SUCCESS) {
        return as_miss(rv);
    }
    rv = as_miss(stat_entry(&file, dirfd, space, key));
    close(dirfd);
    if (rv == APR_SUCCESS) {
        rv = judge_value(&file);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    st->size = file.st_size;
    st->mtime = apr_time_from_sec(file.st_mtim.tv_sec) + file.st_mtim.tv_nsec / 1000;
    /* Two puts within one tick of the clock may get the same inode again; the rename moves
     * the change time as well. */
    st->serial = (apr_uint64_t)file.st_ino * 0x9e3779b97f4a7c15ULL
        ^ ((apr_uint64_t)file.st_ctim.tv_sec * 1000000000ULL
           + (apr_uint64_t)file.st_ctim.tv_nsec);
    return APR_SUCCESS;
}

/* ---- locks ---- */

/* Open the lock file of a key, made when missing. Exclusive making tells whether it is ours to
 * give away. */
static apr_status_t open_lock_file(int *fd, int dirfd, const char *key)
{
    const int flags = O_RDWR | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC;
    struct stat st;

    for (int i = 0; i < LOCK_TRIES; i++) {
        *fd = openat(dirfd, key, flags | O_CREAT | O_EXCL, FILE_MODE);
        if (*fd >= 0) {
            return give_to_owner(*fd, dirfd);
        }
        if (errno != EEXIST) {
            return errno;
        }
        *fd = openat(dirfd, key, flags);
        if (*fd >= 0) {
            if (fstat(*fd, &st) != 0) {
                return errno;
            }
            return S_ISREG(st.st_mode) ? APR_SUCCESS : APR_EINVAL;
        }
        if (errno != ENOENT) {
            return errno;
        }
    }
    return APR_ENOENT;
}

static apr_status_t dir_lock(autocert_cache_t *cache, const char *key,
                             autocert_cache_lock_t **lock, apr_pool_t *pool)
{
    autocert_cache_lock_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv;
    apr_os_file_t fd = -1;
    int parent = -1;
    int dirfd = -1;

    rv = open_space(&parent, cache, AUTOCERT_CACHE_PRIVATE, 1, pool);
    if (rv == APR_SUCCESS) {
        rv = step_into(&dirfd, parent, LOCK_DIR, 1);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = open_lock_file(&fd, dirfd, key);
    close(dirfd);
    if (rv == APR_SUCCESS) {
        rv = apr_os_file_put(&made->file, &fd, APR_FOPEN_READ | APR_FOPEN_WRITE, pool);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_lock(made->file, APR_FLOCK_EXCLUSIVE | APR_FLOCK_NONBLOCK);
        if (APR_STATUS_IS_EAGAIN(rv) || APR_STATUS_IS_EACCES(rv)) {
            rv = APR_EBUSY;
        }
    }
    if (rv != APR_SUCCESS) {
        if (fd >= 0) {
            close(fd);
        }
        return rv;
    }
    *lock = made;
    return APR_SUCCESS;
}

static void dir_unlock(autocert_cache_t *cache, autocert_cache_lock_t *lock)
{
    (void)cache;
    apr_file_close(lock->file);     /* ends the kernel's lock too */
}

/* ---- sweeping ---- */

/* Non-zero for exactly the names that make_temp() makes. */
static int is_temp(const char *name)
{
    size_t prefix = sizeof(TEMP_PREFIX) - 1;

    return strncmp(name, TEMP_PREFIX, prefix) == 0
        && strlen(name + prefix) == 2 * TEMP_RANDOM
        && strspn(name + prefix, "0123456789abcdef") == 2 * TEMP_RANDOM;
}

/* Remove the old ones in one directory; dirfd is closed. */
static apr_status_t sweep_dir(int dirfd, apr_time_t oldest)
{
    apr_status_t rv = APR_SUCCESS;
    struct dirent *entry;
    struct stat st;
    DIR *dir = fdopendir(dirfd);

    if (!dir) {
        rv = errno;
        close(dirfd);
        return rv;
    }
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        if (is_temp(entry->d_name)
            && fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
            && S_ISREG(st.st_mode)
            && apr_time_from_sec(st.st_mtim.tv_sec) + st.st_mtim.tv_nsec / 1000 < oldest
            && unlinkat(dirfd, entry->d_name, 0) != 0 && errno != ENOENT) {
            rv = errno;
        }
    }
    if (rv == APR_SUCCESS) {
        rv = errno;
    }
    closedir(dir);
    return rv;
}

apr_status_t cache_dir_sweep(const char *path, apr_time_t now, apr_interval_time_t age,
                             apr_pool_t *pool)
{
    static const autocert_cache_space_t spaces[] = {
        AUTOCERT_CACHE_SHARED, AUTOCERT_CACHE_PRIVATE
    };
    autocert_cache_t *cache = NULL;
    apr_status_t result = dir_open(&cache, path, pool);

    for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
        int dirfd = -1;
        apr_status_t rv = open_space(&dirfd, cache, spaces[i], 0, pool);

        if (rv == APR_SUCCESS) {
            rv = sweep_dir(dirfd, now - age);
        }
        if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
            result = rv;
        }
    }
    return result;
}

const autocert_cache_provider_t cache_dir_provider = {
    dir_check, dir_prepare, dir_open, dir_get, dir_put, dir_remove, dir_list, dir_stat,
    dir_lock, dir_unlock, dir_close
};
