// SPDX-License-Identifier: GPL-2.0-only
/*
 * The names .vexfs and .vexfs/query, their inodes, and the file. See query.h.
 *
 * Both are of this mount alone: the server knows nothing of them. They are not
 * listed, and cannot be renamed, removed or linked. A file of the pool that is
 * called .vexfs too is not reachable.
 */

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mnt_idmapping.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "query.h"
#include "wire.h"

#define DIR_NAME	".vexfs"
#define FILE_NAME	"query"

/* Files of the pool have lower numbers. */
#define DIR_INO		(1ULL << 63)
#define FILE_INO	(DIR_INO + 1)

/* What fits into a call. */
#define MAX_GROUPS	16384

static const struct inode_operations vexfs_query_dir_inode_operations;
static const struct inode_operations vexfs_query_inode_operations;
static const struct file_operations vexfs_query_dir_operations;
static const struct file_operations vexfs_query_operations;

bool vexfs_query_is_ours(const struct inode *inode)
{
	return inode->i_op == &vexfs_query_dir_inode_operations ||
	       inode->i_op == &vexfs_query_inode_operations;
}

bool vexfs_query_is_name(const struct inode *dir, const char *name,
			 unsigned int length)
{
	return vexfs_ino(dir) == VEXFS_ROOT_INO &&
	       length == strlen(DIR_NAME) && !memcmp(name, DIR_NAME, length);
}

/* Not among the inodes that are found by number. */
static struct inode *vexfs_query_inode(struct super_block *sb, umode_t mode)
{
	struct inode *inode = new_inode(sb);

	if (!inode)
		return ERR_PTR(-ENOMEM);
	inode->i_mode = mode;
	inode->i_flags |= S_NOATIME | S_NOCMTIME;
	/* Nobody is to ask the server for its attributes. */
	inode->i_opflags &= ~IOP_XATTR;
	simple_inode_init_ts(inode);
	if (S_ISDIR(mode)) {
		inode->i_ino = DIR_INO;
		inode->i_op = &vexfs_query_dir_inode_operations;
		inode->i_fop = &vexfs_query_dir_operations;
		set_nlink(inode, 2);
	} else {
		inode->i_ino = FILE_INO;
		inode->i_op = &vexfs_query_inode_operations;
		inode->i_fop = &vexfs_query_operations;
	}
	return inode;
}

struct dentry *vexfs_query_find_dir(struct dentry *dentry)
{
	return d_splice_alias(vexfs_query_inode(dentry->d_sb, S_IFDIR | 0555),
			      dentry);
}

/* No dentry says that a name does not exist: it would be looked up again. */
static struct dentry *vexfs_query_lookup(struct inode *dir,
					 struct dentry *dentry,
					 unsigned int flags)
{
	const struct qstr *name = &dentry->d_name;

	if (name->len != strlen(FILE_NAME) ||
	    memcmp(name->name, FILE_NAME, name->len))
		return ERR_PTR(-ENOENT);
	return d_splice_alias(vexfs_query_inode(dentry->d_sb, S_IFREG | 0666),
			      dentry);
}

static int vexfs_query_dir_setattr(struct mnt_idmap *idmap,
				   struct dentry *dentry, struct iattr *attr)
{
	return -EPERM;
}

static const struct inode_operations vexfs_query_dir_inode_operations = {
	.lookup		= vexfs_query_lookup,
	.setattr	= vexfs_query_dir_setattr,
};

/* Nothing is listed: see the top. */
static int vexfs_query_iterate(struct file *file, struct dir_context *ctx)
{
	dir_emit_dots(file, ctx);
	return 0;
}

static const struct file_operations vexfs_query_dir_operations = {
	.iterate_shared	= vexfs_query_iterate,
	.llseek		= generic_file_llseek,
	.read		= generic_read_dir,
};

static void vexfs_query_clear(struct vexfs_mount *m,
			      struct vexfs_transaction *t)
{
	vexfs_query_free(m, t->request, t->room);
	vexfs_query_free(m, t->answer, t->total);
	t->request = NULL;
	t->length = 0;
	t->room = 0;
	t->answer = NULL;
	t->total = 0;
	t->numbers = 0;
}

/* A transaction begins anew when its file is made empty; nothing else changes. */
static int vexfs_query_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			       struct iattr *attr)
{
	struct vexfs_transaction *t;

	if (!(attr->ia_valid & ATTR_SIZE))
		return -EPERM;
	if (attr->ia_size)
		return -EINVAL;
	if (attr->ia_valid & ATTR_FILE) {
		t = attr->ia_file->private_data;
		mutex_lock(&t->lock);
		vexfs_query_clear(vexfs_mount(dentry->d_sb), t);
		mutex_unlock(&t->lock);
	}
	return 0;
}

static const struct inode_operations vexfs_query_inode_operations = {
	.setattr	= vexfs_query_setattr,
};

/*
 * Whoever opens the file is the caller, as the mount it was opened through maps
 * owners; who comes to the descriptor later can do no more with it. A user that
 * is nobody in the pool is 2^32 - 1 there, which owns nothing.
 */
static int vexfs_query_caller(struct file *file, struct vexfs_caller *caller)
{
	struct user_namespace *ns = i_user_ns(file_inode(file));
	struct mnt_idmap *idmap = file_mnt_idmap(file);
	const struct cred *cred = file->f_cred;
	const struct group_info *groups = cred->group_info;
	kgid_t gid;
	int i;

	/* Fewer could be more: there are files that a group may not read. */
	if (groups->ngroups > MAX_GROUPS)
		return -E2BIG;
	caller->groups = kvmalloc_array(groups->ngroups + 1, sizeof(__u32),
					GFP_KERNEL_ACCOUNT);
	if (!caller->groups)
		return -ENOMEM;
	caller->uid = from_kuid(&init_user_ns,
				from_vfsuid(idmap, ns,
					    VFSUIDT_INIT(cred->fsuid)));
	caller->gid = from_kgid(&init_user_ns,
				from_vfsgid(idmap, ns,
					    VFSGIDT_INIT(cred->fsgid)));
	for (i = 0; i < groups->ngroups; i++) {
		gid = from_vfsgid(idmap, ns, VFSGIDT_INIT(groups->gid[i]));
		if (gid_valid(gid))
			caller->groups[caller->count++] =
				to32(from_kgid(&init_user_ns, gid));
	}
	if (ns_capable_noaudit(&init_user_ns, CAP_DAC_OVERRIDE))
		caller->flags = VEXFS_CALLER_MAY_ALL;
	return 0;
}

static int vexfs_query_open(struct inode *inode, struct file *file)
{
	struct vexfs_transaction *t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	int err;

	if (!t)
		return -ENOMEM;
	err = vexfs_query_caller(file, &t->caller);
	if (err) {
		kfree(t);
		return err;
	}
	mutex_init(&t->lock);
	file->private_data = t;
	return 0;
}

static int vexfs_query_release(struct inode *inode, struct file *file)
{
	struct vexfs_transaction *t = file->private_data;

	vexfs_query_clear(vexfs_mount(inode->i_sb), t);
	kvfree(t->caller.groups);
	kfree(t);
	return 0;
}

/* Sees to it that a request can be so long. */
static int vexfs_query_room(struct vexfs_mount *m, struct vexfs_transaction *t,
			    u32 length)
{
	u32 room = t->room ?: PAGE_SIZE;
	u8 *request;

	if (length <= t->room)
		return 0;
	while (room < length)
		room *= 2;
	request = vexfs_query_alloc(m, room);
	if (!request)
		return -ENOMEM;
	if (t->length)
		memcpy(request, t->request, t->length);
	vexfs_query_free(m, t->request, t->room);
	t->request = request;
	t->room = room;
	return 0;
}

static ssize_t vexfs_query_write(struct file *file, const char __user *from,
				 size_t count, loff_t *pos)
{
	struct vexfs_mount *m = vexfs_mount(file_inode(file)->i_sb);
	struct vexfs_transaction *t = file->private_data;
	u32 at, end;
	int err;

	if (mutex_lock_killable(&t->lock))
		return -EINTR;
	if (file->f_flags & O_APPEND)
		*pos = t->length;
	err = -EBUSY;
	if (t->answer)
		goto unlock;
	err = -EFBIG;
	if (*pos > VEXFS_QUERY_REQUEST_BYTES ||
	    count > VEXFS_QUERY_REQUEST_BYTES - *pos)
		goto unlock;
	at = *pos;
	end = at + count;
	err = vexfs_query_room(m, t, end);
	if (err)
		goto unlock;
	if (copy_from_user(t->request + at, from, count)) {
		err = -EFAULT;
		goto unlock;
	}
	if (at > t->length)
		memset(t->request + t->length, 0, at - t->length);
	t->length = max(t->length, end);
	*pos = end;
unlock:
	mutex_unlock(&t->lock);
	return err ?: count;
}

static ssize_t vexfs_query_copy(const struct vexfs_transaction *t,
				char __user *to, size_t count, loff_t *pos)
{
	ssize_t done, more;
	loff_t at;

	done = simple_read_from_buffer(to, count, pos, t->request, t->length);
	if (done < 0 || done == count || *pos < t->length)
		return done;
	at = *pos - t->length;
	more = simple_read_from_buffer(to + done, count - done, &at,
				       t->answer + t->numbers,
				       t->total - t->numbers);
	if (more < 0)
		return done ?: more;
	*pos += more;
	return done + more;
}

static ssize_t vexfs_query_read(struct file *file, char __user *to,
				size_t count, loff_t *pos)
{
	struct vexfs_transaction *t = file->private_data;
	ssize_t done = 0;

	if (mutex_lock_killable(&t->lock))
		return -EINTR;
	if (!t->answer && t->length)
		done = vexfs_query_ask(file_inode(file)->i_sb, t);
	if (!done)
		done = vexfs_query_copy(t, to, count, pos);
	mutex_unlock(&t->lock);
	return done;
}

static loff_t vexfs_query_llseek(struct file *file, loff_t offset, int whence)
{
	struct vexfs_transaction *t = file->private_data;
	loff_t size;

	if (mutex_lock_killable(&t->lock))
		return -EINTR;
	size = (loff_t)t->length + t->total - t->numbers;
	mutex_unlock(&t->lock);
	return generic_file_llseek_size(file, offset, whence, S64_MAX, size);
}

static const struct file_operations vexfs_query_operations = {
	.open		= vexfs_query_open,
	.release	= vexfs_query_release,
	.read		= vexfs_query_read,
	.write		= vexfs_query_write,
	.llseek		= vexfs_query_llseek,
	.fsync		= noop_fsync,
};
