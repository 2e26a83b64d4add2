// SPDX-License-Identifier: GPL-2.0-only
/*
 * Beginning, resuming and ending a session with the server (docs/ABI.md).
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/random.h>

#include "call.h"
#include "credits.h"
#include "post.h"

/* Features of the language this module knows. None have been defined yet. */
#define KNOWN_INCOMPAT	0
#define KNOWN_RO_COMPAT	0

/* Copies the welcome out; numbers are the machine's afterwards. */
static int vexfs_welcome(struct vexfs_call *call, struct vexfs_attr *root,
			 u64 *session, bool *read_only)
{
	const struct vexfs_welcome *welcome;
	struct vexfs_attr scratch;

	welcome = vexfs_take(&call->answer,
			     offsetof(struct vexfs_welcome, root));
	if (!welcome || le16(welcome->major) != VEXFS_ABI_MAJOR ||
	    !welcome->session)
		return -EIO;
	if (vexfs_take_attr(&call->answer, call->mount,
			    root ? root : &scratch))
		return -EIO;
	*session = le64(welcome->session);
	*read_only = le32(welcome->read_only);
	return 0;
}

int vexfs_session_begin(struct vexfs_mount *m, bool read_only,
			struct vexfs_attr *root)
{
	struct vexfs_hello *hello;
	struct vexfs_call *call;
	bool server_read_only;
	u64 session;
	int err;

	call = vexfs_call_new(m, VEXFS_HELLO, sizeof(*hello),
			      sizeof(struct vexfs_welcome));
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->single = true;
	hello = call->payload;
	hello->major = to16(VEXFS_ABI_MAJOR);
	hello->minor = to16(VEXFS_ABI_MINOR);
	hello->read_only = to32(read_only);
	hello->known_incompat = to64(KNOWN_INCOMPAT);
	hello->known_ro_compat = to64(KNOWN_RO_COMPAT);
	hello->nonce = to64(get_random_u64() | 1);
	call->length = sizeof(*hello);

	vexfs_grant_reset(m);
	vexfs_posts_reset(m);
	vexfs_credits_reset(m);
	err = vexfs_call(call);
	if (!err) {
		err = vexfs_welcome(call, root, &session, &server_read_only);
		if (err)
			vexfs_err(m, "the server's welcome makes no sense\n");
	} else {
		vexfs_err(m, "the server refuses or does not answer: %d\n",
			  err);
	}
	if (!err) {
		WRITE_ONCE(m->session, session);
		WRITE_ONCE(m->epoch, call->epoch);
		m->session_read_only = read_only;
		m->server_read_only = server_read_only;
	}
	vexfs_call_put(call);
	return err;
}

int vexfs_session_resume(struct vexfs_mount *m)
{
	struct vexfs_resume *resume;
	struct vexfs_call *call;
	u64 session, granted, spent;
	bool read_only;
	int err;

	call = vexfs_call_new(m, VEXFS_RESUME, sizeof(*resume),
			      sizeof(struct vexfs_welcome));
	if (IS_ERR(call))
		return PTR_ERR(call);
	call->single = true;
	resume = call->payload;
	resume->session = to64(READ_ONCE(m->session));
	resume->posted = to64(vexfs_posts_hold(m));
	vexfs_credits_from(m, 0);
	vexfs_credits_tell(m, &granted, &spent);
	resume->credits = to64(granted);
	resume->spent = to64(spent);
	call->length = sizeof(*resume);

	err = vexfs_call(call);
	if (!err)
		err = vexfs_welcome(call, NULL, &session, &read_only);
	if (!err && session != READ_ONCE(m->session))
		err = -EIO;
	if (!err)
		WRITE_ONCE(m->epoch, call->epoch);
	vexfs_call_put(call);
	return err;
}

/* Best effort: the next HELLO ends the session too. */
void vexfs_session_end(struct vexfs_mount *m)
{
	struct vexfs_call *call;

	if (!m->session || !vexfs_healthy(m))
		return;
	call = vexfs_call_new(m, VEXFS_GOODBYE, 0, 0);
	if (IS_ERR(call))
		return;
	call->single = true;
	vexfs_call(call);
	vexfs_call_put(call);
	m->session = 0;
}
