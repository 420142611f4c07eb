/*
 * What a power loss leaves of a folder.
 *
 * COPPICE_SHADOW_OF is the folder, COPPICE_SHADOW another one that gets what is
 * surely on disk, and nothing else:
 *
 *   objects/<file>   the content of a file as of its last fsync or fdatasync
 *   names/<folder>   the names in a folder as of the folder's last fsync:
 *                    "f <file> <name>" or "d <folder> <name>" a line
 *
 * <file> and <folder> are inode and time of birth, since inodes are used again.
 * The folder itself is "root". What is there when the process starts counts as
 * synced. Files are written at their end, as those of RocksDB are: beyond
 * WHOLE_BYTES only the unsynced tail is copied.
 *
 * A process killed within a copy leaves a part of a tail, as a power loss does.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHOLE_BYTES (64 * 1024)

static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER;
static char source[PATH_MAX];
static char shadow[PATH_MAX];

/* A hole in the record would be taken for a loss by the agent. */
static void give_up(const char *what, const char *path)
{
	fprintf(stderr, "power_loss: %s %s: %s\n", what, path, strerror(errno));
	abort();
}

/* Whether it is still there. */
static int name_of(int fd, const char *path, char *name, size_t size)
{
	struct statx found;
	int flags = path[0] == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;

	if (statx(fd, path, flags, STATX_INO | STATX_BTIME, &found) != 0) {
		if (errno != ENOENT)
			give_up("statx", path);
		return 0;
	}
	snprintf(name, size, "%llu-%lld-%u", (unsigned long long)found.stx_ino,
		 (long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
	return 1;
}

static int copy_range(int from, int to, off_t at, off_t end)
{
	char buffer[65536];

	while (at < end) {
		size_t want = end - at < (off_t)sizeof(buffer) ? (size_t)(end - at) : sizeof(buffer);
		ssize_t got = pread(from, buffer, want, at);

		if (got <= 0)
			return got == 0 ? 0 : -1;
		if (pwrite(to, buffer, (size_t)got, at) != got)
			return -1;
		at += got;
	}
	return 0;
}

/* `fd` may be open for writing only, so the file is opened again. */
static void keep_file(int fd)
{
	char name[64], object[PATH_MAX + 96], whole[PATH_MAX + 104], own[64];
	struct stat now, before;
	off_t kept = 0;
	int from, to;

	snprintf(own, sizeof(own), "/proc/self/fd/%d", fd);
	if (fstat(fd, &now) != 0 || now.st_nlink == 0)
		return;
	from = open(own, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		give_up("open", own);
	name_of(fd, "", name, sizeof(name));
	snprintf(object, sizeof(object), "%s/objects/%s", shadow, name);
	snprintf(whole, sizeof(whole), "%s.part", object);
	if (now.st_size > WHOLE_BYTES && stat(object, &before) == 0 && before.st_size <= now.st_size)
		kept = before.st_size;
	to = open(kept > 0 ? object : whole, O_WRONLY | O_CREAT | O_CLOEXEC | (kept > 0 ? 0 : O_TRUNC),
		  0600);
	if (to < 0 || copy_range(from, to, kept, now.st_size) != 0)
		give_up("copy", object);
	if (kept == 0 && rename(whole, object) != 0)
		give_up("rename", whole);
	close(from);
	close(to);
}

static void keep_names(const char *path)
{
	char name[64] = "root", list[PATH_MAX + 96], part[PATH_MAX + 104];
	struct dirent *entry;
	DIR *folder = opendir(path);
	FILE *out;

	if (folder == NULL)
		return;
	if (strcmp(path, source) != 0)
		name_of(dirfd(folder), "", name, sizeof(name));
	snprintf(list, sizeof(list), "%s/names/%s", shadow, name);
	snprintf(part, sizeof(part), "%s.part", list);
	out = fopen(part, "we");
	if (out == NULL)
		give_up("open", part);
	while ((entry = readdir(folder)) != NULL) {
		char file[64];
		struct stat found;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		/* Others may take it away meanwhile. */
		if (fstatat(dirfd(folder), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0 ||
		    !name_of(dirfd(folder), entry->d_name, file, sizeof(file)))
			continue;
		fprintf(out, "%c %s %s\n", S_ISDIR(found.st_mode) ? 'd' : 'f', file, entry->d_name);
	}
	closedir(folder);
	if (fclose(out) != 0 || rename(part, list) != 0)
		give_up("rename", part);
}

static void keep(int fd)
{
	char own[64], path[PATH_MAX];
	size_t length = strlen(source);
	struct stat found;
	ssize_t got;

	snprintf(own, sizeof(own), "/proc/self/fd/%d", fd);
	got = readlink(own, path, sizeof(path) - 1);
	if (length == 0 || got < 0 || fstat(fd, &found) != 0)
		return;
	path[got] = '\0';
	if (strncmp(path, source, length) != 0 || (path[length] != '/' && path[length] != '\0'))
		return;
	pthread_mutex_lock(&copying);
	if (S_ISDIR(found.st_mode))
		keep_names(path);
	else
		keep_file(fd);
	pthread_mutex_unlock(&copying);
}

static void keep_all(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;

	if (folder == NULL)
		return;
	while ((entry = readdir(folder)) != NULL) {
		char inner[PATH_MAX];
		struct stat found;
		int fd;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		if (lstat(inner, &found) != 0)
			give_up("lstat", inner);
		if (S_ISDIR(found.st_mode)) {
			keep_all(inner);
			continue;
		}
		fd = open(inner, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			give_up("open", inner);
		keep_file(fd);
		close(fd);
	}
	closedir(folder);
	keep_names(path);
}

__attribute__((constructor)) static void begin(void)
{
	const char *of = getenv("COPPICE_SHADOW_OF"), *to = getenv("COPPICE_SHADOW");
	char folder[PATH_MAX + 16];

	if (of == NULL || to == NULL)
		return;
	snprintf(source, sizeof(source), "%s", of);
	snprintf(shadow, sizeof(shadow), "%s", to);
	snprintf(folder, sizeof(folder), "%s/objects", shadow);
	mkdir(folder, 0700);
	snprintf(folder, sizeof(folder), "%s/names", shadow);
	mkdir(folder, 0700);
	keep_all(source);
}

static int sync_and_keep(const char *name, int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
	int result = next(fd);
	int error = errno;

	if (result == 0)
		keep(fd);
	errno = error;
	return result;
}

int fsync(int fd)
{
	return sync_and_keep("fsync", fd);
}

int fdatasync(int fd)
{
	return sync_and_keep("fdatasync", fd);
}
