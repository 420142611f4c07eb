/*
 * A disk that no longer takes anything for good: while the file that
 * COPPICE_FSYNC_FAILS names exists, fsync and fdatasync fail with EIO.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void)
{
	const char *flag = getenv("COPPICE_FSYNC_FAILS");

	return flag != NULL && access(flag, F_OK) == 0;
}

static int sync_or_fail(const char *name, int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

	if (fails()) {
		errno = EIO;
		return -1;
	}
	return next(fd);
}

int fsync(int fd)
{
	return sync_or_fail("fsync", fd);
}

int fdatasync(int fd)
{
	return sync_or_fail("fdatasync", fd);
}
