/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the module share: the mount, the inode, and who may touch
 * which of their fields.
 *
 * Layers, each using only those below it:
 *
 *	super inode namei dir file query mapping writeback range xattr acl export	VFS
 *	change		operations: posted, or applied by the server
 *	post		operations that the server carries out later
 *	session grant	HELLO, RESUME, GOODBYE; numbers of new inodes
 *	call		one question and its answer: slots, retries, errnos
 *	health		is there anybody to ask
 *	exchange	a pair of bios that may outlive everything above
 *	op wire		bytes out, bytes in
 */
#ifndef VEXFS_H
#define VEXFS_H

#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "variant.h"
#include "vexfs_abi.h"

#define VEXFS_SB_MAGIC		0x56455846	/* "VEXF" */
#define VEXFS_ROOT_INO		1
#define VEXFS_ABI_BLOCK_BITS	12		/* of VEXFS_ABI_BLOCK */
#define VEXFS_MAX_LINKS		65535
#define VEXFS_BLOCK_BITS	12

/* Buckets of the latency histogram: bucket i counts calls below 2^i us. */
#define VEXFS_LATENCY_BUCKETS	26

/*
 * Whether a mount has somebody to ask.
 *
 *	from \ to	HEALTHY	DEGRADED	LOST	GONE
 *	HEALTHY		-	no answer	session	unmount, device
 *	DEGRADED	answer	-		session	unmount, device
 *	LOST		-	-		-	unmount, device
 *
 * DEGRADED heals by itself. LOST (another server does not know our session)
 * and GONE do not.
 */
enum vexfs_health {
	VEXFS_HEALTHY,
	VEXFS_DEGRADED,
	VEXFS_LOST,
	VEXFS_GONE,
};

struct vexfs_counters {
	atomic64_t calls;	/* begun */
	atomic64_t posted;	/* operations that were not asked for one by one */
	atomic64_t failed;	/* ended with an errno of the safety layer */
	atomic64_t refused;	/* not begun: the mount was not healthy */
	atomic64_t timeouts;	/* attempts without an answer in time */
	atomic64_t retries;	/* attempts after the first */
	atomic64_t again;	/* answers that asked for the request again */
	atomic64_t late;	/* answers that nobody waited for any more */
	atomic64_t detached;	/* writes that pages did not wait for any more */
	atomic64_t hostile;	/* answers that made no sense */
	atomic64_t degraded;	/* times the mount became degraded */
	atomic64_t healed;
	atomic64_t read_bytes;
	atomic64_t written_bytes;
	atomic64_t latency[VEXFS_LATENCY_BUCKETS];
};

struct vexfs_options {
	unsigned int timeout_ms;	/* of the first attempt */
	unsigned int retries;
};

/* One call slot. Guarded by vexfs_mount.lock. */
struct vexfs_slot {
	unsigned int uses;	/* its caller, and its exchanges in flight */
	u64 seq;		/* of its newest call; by its caller */
};

/* A lane of requests about vectors: see query_ask.c. Guarded by vexfs_mount.lock. */
struct vexfs_lane {
	bool used;
	unsigned int slot;	/* where a call was left under way, ... */
	u64 left;		/* ... and its number; 0: there is none */
	u64 number;		/* requests so far; of who uses the lane */
};

/* Operations on their way to the log window. */
struct vexfs_piece {
	struct vexfs_buffer *buffer;
	u64 position;			/* of the first */
	u32 count;
	u32 bytes;
	bool commit;			/* somebody waits until it is durable */
};

/* How many pieces are filled, sent and kept. */
#define VEXFS_PIECES	4

/* Posted operations: see post.h. */
struct vexfs_posts {
	struct workqueue_struct *wq;
	struct delayed_work work;
	wait_queue_head_t wait;		/* more are applied or granted, or health */
	u32 room;			/* bytes of operations in a piece */
	struct vexfs_buffer *spare;	/* of the work item */

	spinlock_t lock;		/* what follows */
	struct vexfs_piece pieces[VEXFS_PIECES];
	u32 first;			/* the oldest that is not applied */
	u32 open;			/* the one that is filled */
	u64 posted;			/* position behind the last */
	u64 applied;			/* the server has carried out those before */
	u64 committed;			/* up to there a piece was made durable */
	u64 granted;			/* those before may be posted */
	u64 epoch;			/* of the server that may grant more */
	unsigned long denied_until;	/* jiffies: not worth asking for more */
};

/* Data credits: see credits.h. */
struct vexfs_credits {
	spinlock_t lock;		/* irq-safe: what follows */
	u64 granted;			/* by the server since HELLO */
	u64 epoch;			/* of the server that may grant more */
	u64 spent;			/* used up or given back */
	s64 held;			/* of blocks that are dirty or under way */
	unsigned long used;		/* jiffies */
	struct delayed_work rest;
};

/* How full the pool was; see statfs.c. */
struct vexfs_room {
	spinlock_t lock;		/* what follows */
	bool known;
	u64 posted;			/* position of the log at that time */
	u64 calls;			/* as counters.calls */
	unsigned long since;		/* jiffies */
	struct vexfs_statfs figures;
};

/*
 * A mounted device. Lives as long as its superblock or an exchange with its
 * device, whichever ends last: a reply may come after the unmount.
 */
struct vexfs_mount {
	struct kref ref;
	struct super_block *sb;		/* not to be used by late exchanges */
	struct block_device *bdev;	/* kept by a reference on its disk */
	char name[32];			/* of the device, for messages */
	struct vexfs_options options;
	struct work_struct free_work;
	struct list_head all;		/* under vexfs_all_lock, mount.c */

	/* From the super window; constant. */
	struct vexfs_window calls;
	struct vexfs_window log;
	u64 data_start;
	u64 data_end;
	u64 max_file_bytes;
	struct vexfs_own_windows own;

	/* Session. Written during mount, remount and by the health work. */
	u64 session;
	bool session_read_only;
	bool server_read_only;
	u64 epoch;
	atomic64_t seq;

	spinlock_t lock;		/* irq-safe: what follows */
	struct vexfs_slot *slots;
	wait_queue_head_t slot_wait;	/* a slot is free, or health changed */
	struct list_head pending;	/* exchanges somebody waits for */
	struct vexfs_lane lanes[VEXFS_QUERY_LANES];
	wait_queue_head_t lane_wait;	/* a lane is free */
	atomic64_t query_bytes;		/* of requests and answers about vectors */

	atomic_t health;		/* enum vexfs_health */
	unsigned int trust;		/* caches older than this ask again */
	struct delayed_work health_work;

	/* Numbers for new inodes. */
	struct mutex grant_lock;	/* asking for more */
	spinlock_t grant_spin;		/* the fields below */
	u64 ino_next;
	u64 ino_end;
	u64 ino_spare;			/* a granted range not begun yet */
	u64 ino_spare_end;
	u64 ino_newest;			/* highest number granted so far */

	atomic64_t evicted;		/* inodes with names that left the cache */

	/* Inodes without names that the server may forget. */
	spinlock_t release_lock;
	struct list_head release_list;
	struct work_struct release_work;

	struct workqueue_struct *wq;	/* ends of writeback, releases */

	struct vexfs_posts posts;
	struct vexfs_credits credits;

	/* Writes of pages that are in flight: see writeback.c. */
	unsigned int write_bytes;	/* largest request of the device */
	unsigned int write_limit;	/* requests in flight, about */
	struct delayed_work watch_work;
	struct work_struct detach_work;
	spinlock_t write_lock;		/* irq-safe: what follows */
	wait_queue_head_t write_wait;	/* there are fewer, or health changed */
	struct list_head writing;	/* iomap_ioend.io_list; not detached */
	unsigned int writes;		/* requests, detached ones included */
	struct list_head reading;	/* vexfs_read.list; not detached */
	struct list_head direct;	/* vexfs_direct.list; the same */
	unsigned int reads;
	unsigned long write_progress;	/* jiffies of the last end of any */

	struct vexfs_room room;
	struct vexfs_counters counters;
	struct kobject kobj;
	struct completion kobj_gone;
};

/*
 * What this client knows about an inode besides what VFS keeps.
 *
 * attr_lock orders what the server says about the inode: it is held over the
 * call and over taking its answer, so that an older answer never replaces a
 * newer one. It is taken inside i_rwsem and inside folio locks; nothing that
 * locks a folio may be done under it. Of several inodes: in order of address.
 */
struct vexfs_inode {
	struct inode vfs_inode;

	struct mutex attr_lock;
	u32 flags;			/* FS_IOC_GETFLAGS */
	u16 hints;			/* VEXFS_HINT_* */
	bool created;			/* the server knows of it */
	bool window;			/* a MAP was made */

	/* Directories: what the cache has of their names; see fill.c. */
	atomic64_t lost;		/* names that left the cache */
	atomic_t asked;			/* names that were asked for by calls */
	u64 complete;			/* trust + 1 in which it has them all */
	u64 complete_lost;		/* as long as no more were lost than then */
	spinlock_t fill_lock;		/* what follows, and writing complete */
	u64 filled;			/* position up to which it has them, or 0 */
	u64 filled_lost;
	unsigned int filled_trust;

	u64 told;			/* the server has it when this is applied */
	unsigned int trust;		/* attributes are of this trust */

	/* Times as the server has them, nanoseconds; under attr_lock. */
	s64 known_atime;
	s64 known_mtime;
	s64 known_ctime;
	s64 birth;

	spinlock_t lock;		/* irq-safe: what follows */
	u64 data_base;
	u64 data_span;
	u64 disk_size;			/* size as the server has it */
	u64 arrived;			/* end of bytes the server has */
	bool blocks_stale;		/* i_blocks is older than the last write */
	bool resized;			/* and the server may not know; attr_lock */
	struct list_head ioends;	/* written, to be ended */
	struct xarray delayed;		/* blocks with credits: credits.c */
	atomic64_t delayed_seq;		/* changes when some go to be written back */
	struct work_struct ioend_work;
};

static inline struct vexfs_mount *vexfs_mount(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct vexfs_inode *vexfs_i(const struct inode *inode)
{
	return container_of(inode, struct vexfs_inode, vfs_inode);
}

static inline u64 vexfs_ino(const struct inode *inode)
{
	return inode->i_ino;
}

#define vexfs_err(m, fmt, ...) \
	pr_err_ratelimited("%s: " fmt, (m)->name, ##__VA_ARGS__)
#define vexfs_warn(m, fmt, ...) \
	pr_warn_ratelimited("%s: " fmt, (m)->name, ##__VA_ARGS__)
#define vexfs_info(m, fmt, ...) \
	pr_info_ratelimited("%s: " fmt, (m)->name, ##__VA_ARGS__)

/* client.c */
extern struct workqueue_struct *vexfs_wq;
extern unsigned int vexfs_default_timeout_ms;
extern unsigned int vexfs_default_retries;

/* mount.c */
struct vexfs_mount *vexfs_mount_new(struct super_block *sb,
				    const struct vexfs_options *options);
int vexfs_mount_alone(struct vexfs_mount *m);
/* What vexfs_mount_identify() returns for an image that needs no server. */
#define VEXFS_IS_SEALED	1
int vexfs_mount_identify(struct vexfs_mount *m, int silent,
			 struct vexfs_super *super);
void vexfs_mount_stop(struct vexfs_mount *m);
void vexfs_mount_put(struct vexfs_mount *m);

static inline void vexfs_mount_get(struct vexfs_mount *m)
{
	kref_get(&m->ref);
}

/* health.c */
static inline enum vexfs_health vexfs_health(const struct vexfs_mount *m)
{
	return atomic_read(&m->health);
}

static inline bool vexfs_healthy(const struct vexfs_mount *m)
{
	return vexfs_health(m) == VEXFS_HEALTHY;
}

/*
 * How long to sleep at once: shorter than the kernel takes for a hang. A wait
 * with a long timeout ends by itself and is none.
 */
#define VEXFS_SLEEP	(5 * HZ)

/* How long the server may take for a step, in jiffies. */
static inline unsigned long vexfs_patience(const struct vexfs_mount *m)
{
	return vexfs_is_safe ? msecs_to_jiffies(m->options.timeout_ms) :
			       MAX_SCHEDULE_TIMEOUT;
}

const char *vexfs_health_name(enum vexfs_health health);
void vexfs_health_init(struct vexfs_mount *m);
void vexfs_health_degrade(struct vexfs_mount *m, const char *why);
void vexfs_health_lose(struct vexfs_mount *m);
void vexfs_health_end(struct vexfs_mount *m);
void vexfs_health_check(struct vexfs_mount *m);

/* session.c */
int vexfs_session_begin(struct vexfs_mount *m, bool read_only,
			struct vexfs_attr *root);
int vexfs_session_resume(struct vexfs_mount *m);
void vexfs_session_end(struct vexfs_mount *m);

/* grant.c */
void vexfs_grant_note(struct vexfs_mount *m, u64 from, u32 count);
void vexfs_grant_reset(struct vexfs_mount *m);
int vexfs_grant_operations(struct vexfs_mount *m, u64 count);
/* Under grant_lock. @ordered: after what was posted is done. */
int vexfs_grant_blocks(struct vexfs_mount *m, u64 count, bool ordered);
int vexfs_grant_ino(struct vexfs_mount *m, u64 *ino);

/*
 * When an answer about an inode was asked for. Taken before the question; tells
 * whether the answer may be older than what the cache has forgotten.
 */
struct vexfs_stamp {
	unsigned int trust;
	s64 evicted;
};

static inline struct vexfs_stamp vexfs_stamp(const struct vexfs_mount *m)
{
	struct vexfs_stamp stamp = {
		.trust = READ_ONCE(m->trust),
		.evicted = atomic64_read(&m->evicted),
	};

	return stamp;
}

/* inode.c */
int vexfs_inode_cache_create(void);
void vexfs_inode_cache_destroy(void);
struct inode *vexfs_alloc_inode(struct super_block *sb);
void vexfs_free_inode(struct inode *inode);
void vexfs_evict_inode(struct inode *inode);
struct inode *vexfs_iget(struct super_block *sb, const struct vexfs_attr *attr,
			 struct vexfs_stamp stamp);
bool vexfs_inode_is(const struct inode *inode, const struct vexfs_attr *attr);
void vexfs_inode_setup(struct inode *inode);
void vexfs_inode_learn(struct inode *inode, const struct vexfs_attr *attr);
void vexfs_apply_flags(struct inode *inode);
void vexfs_inode_born(struct inode *inode, u32 flags);
void vexfs_dir_changed(struct inode *dir, s64 time);
void vexfs_dir_buried(struct inode *inode, struct inode *parent, s64 time);

/* refresh.c */
int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc);
int vexfs_inode_push(struct inode *inode);
int vexfs_inode_refresh(struct inode *inode);
int vexfs_inode_check(struct inode *inode);

/* attr.c */
int vexfs_getattr(struct mnt_idmap *idmap, const struct path *path,
		  struct kstat *stat, u32 request_mask, unsigned int flags);
int vexfs_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		  struct iattr *attr);
int vexfs_fileattr_get(struct dentry *dentry, compat_fileattr_t *fa);
int vexfs_fileattr_set(struct mnt_idmap *idmap, struct dentry *dentry,
		       compat_fileattr_t *fa);

/* release.c */
void vexfs_release_init(struct vexfs_mount *m);
void vexfs_release_later(struct vexfs_mount *m, u64 ino, u32 generation,
			 bool named);
void vexfs_release_drop(struct vexfs_mount *m);

/* statfs.c */
int vexfs_room_ask(struct vexfs_mount *m, struct vexfs_statfs *into);
int vexfs_statfs(struct dentry *dentry, struct kstatfs *st);

/* namei.c */
extern const struct dentry_operations vexfs_dentry_operations;
extern const struct inode_operations vexfs_dir_inode_operations;
bool vexfs_dir_empty(struct dentry *dentry);
struct inode *vexfs_find(struct inode *dir, const struct qstr *name,
			 struct vexfs_stamp *stamp);

/* rename.c */
int vexfs_rename(struct mnt_idmap *idmap, struct inode *old_dir,
		 struct dentry *old_dentry, struct inode *new_dir,
		 struct dentry *new_dentry, unsigned int flags);

/* create.c */
int vexfs_make(struct mnt_idmap *idmap, struct inode *dir,
	       struct dentry *dentry, umode_t mode, dev_t dev,
	       const char *target);
int vexfs_tmpfile(struct mnt_idmap *idmap, struct inode *dir,
		  struct file *file, umode_t mode);

/* query.c */

/* Whether an inode is one of those that the server knows nothing of. */
bool vexfs_query_is_ours(const struct inode *inode);
/* Whether a name in a directory of the pool stands for ours. */
bool vexfs_query_is_name(const struct inode *dir, const char *name,
			 unsigned int length);
/* Looks that name up. */
struct dentry *vexfs_query_find_dir(struct dentry *dentry);

/* dir.c */
extern const struct file_operations vexfs_dir_operations;

/* symlink.c */
extern const struct inode_operations vexfs_symlink_inode_operations;

/* file.c */
extern const struct inode_operations vexfs_file_inode_operations;
extern const struct inode_operations vexfs_special_inode_operations;
extern const struct file_operations vexfs_file_operations;
int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync);

/* mapping.c */
extern const struct iomap_ops vexfs_iomap_ops;
extern const compat_write_ops_t vexfs_write_ops;
extern const struct address_space_operations vexfs_address_operations;
int vexfs_map_window(struct inode *inode, loff_t offset, u64 length,
		     bool nowait, struct iomap *iomap);
int vexfs_before_io(struct inode *inode, loff_t offset, u64 length,
		    bool nowait);
int vexfs_inode_told(struct inode *inode, bool nowait);
void vexfs_arrived(struct inode *inode, u64 end);
int vexfs_wait_range(struct inode *inode, loff_t start, loff_t end);
int vexfs_settle(struct inode *inode, loff_t start, loff_t end);
int vexfs_zero_tail(struct inode *inode, loff_t size);

/* read.c */
int vexfs_reads_create(void);
void vexfs_reads_destroy(void);
int vexfs_read_folio(struct file *file, struct folio *folio);
void vexfs_readahead(struct readahead_control *rac);
/* Locked, with what it needs of blocks that are about to be changed in part. */
struct folio *vexfs_write_folio(struct iomap_iter *iter, loff_t pos,
				unsigned int len);
unsigned int vexfs_reads_detach(struct vexfs_mount *m);

/* direct.c */
struct iomap_iter;
int vexfs_direct_create(void);
void vexfs_direct_destroy(void);
void vexfs_direct_submit(const struct iomap_iter *iter, struct bio *caller,
			 loff_t offset);
unsigned int vexfs_direct_detach(struct vexfs_mount *m);

/* writeback.c */
int vexfs_writepages(struct address_space *mapping,
		     struct writeback_control *wbc);
void vexfs_ioend_work(struct work_struct *work);
void vexfs_writes_init(struct vexfs_mount *m);
void vexfs_writes_stop(struct vexfs_mount *m);
/* Something was sent: whether it ends is looked after. */
void vexfs_sent(struct vexfs_mount *m);
/* The mount is not healthy: nobody waits for what is in flight. Any context. */
void vexfs_detach(struct vexfs_mount *m);
bool vexfs_writes_ended(struct vexfs_mount *m);

/* range.c */
long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t len);
loff_t vexfs_remap(struct file *in, loff_t pos_in, struct file *out,
		   loff_t pos_out, loff_t len, unsigned int flags);
loff_t vexfs_llseek(struct file *file, loff_t offset, int whence);
int vexfs_fiemap(struct inode *inode, struct fiemap_extent_info *info,
		 u64 start, u64 len);

/* acl.c */
struct posix_acl *vexfs_get_acl(struct inode *inode, int type, bool rcu);
int vexfs_set_acl(struct mnt_idmap *idmap, struct dentry *dentry,
		  struct posix_acl *acl, int type);

/* xattr.c */
extern const struct xattr_handler * const vexfs_xattr_handlers[];
ssize_t vexfs_listxattr(struct dentry *dentry, char *list, size_t size);
int vexfs_getxattr(struct inode *inode, const char *name, void *value,
		   size_t size);

/* export.c */
extern const struct export_operations vexfs_export_operations;

/* sysfs.c */
int vexfs_sysfs_add(struct vexfs_mount *m);
void vexfs_sysfs_remove(struct vexfs_mount *m);

#endif /* VEXFS_H */
