/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Listings of directories as the server sends them, and the caches that are
 * filled from them.
 */
#ifndef VEXFS_LISTING_H
#define VEXFS_LISTING_H

#include "call.h"

/* Positions: 0 is ".", 1 is "..", 2 the start of the entries. */
#define VEXFS_DIR_START	2

/* A reply, as far as it has been read. */
struct vexfs_list {
	struct vexfs_call *call;	/* NULL: there is none */
	struct vexfs_reader rest;	/* of its answer */
	struct vexfs_stamp stamp;	/* from before it was asked for */
	u64 lost;			/* the directory's, from before, too */
	u32 left;			/* entries in it */
	bool end;			/* nothing follows them */
	bool attributes;
	u64 next;			/* position they go on from */
};

struct vexfs_entry {
	const char *name;
	u16 length;
	u8 kind;			/* as d_type */
	u64 ino;
	u64 next;			/* position behind it */
	struct vexfs_reader rest;	/* what follows */
	struct vexfs_attr attr;
	int attr_err;			/* -ENOENT: none were sent */
};

/* Asks for what follows a position; what was there before is dropped. */
int vexfs_list_ask(struct inode *dir, struct vexfs_list *list, u64 position,
		   bool attributes);
void vexfs_list_drop(struct vexfs_list *list);
/*
 * Looks at the next entry; there is one. -EIO: it makes no sense, which has
 * been told.
 */
int vexfs_list_look(const struct vexfs_list *list, const struct inode *dir,
		    struct vexfs_entry *entry);
/* Goes behind it. */
void vexfs_list_pass(struct vexfs_list *list, const struct vexfs_entry *entry);

/* fill.c */

/* Whether the cache has every name of a directory. */
bool vexfs_dir_complete(const struct inode *dir);
/* It has, from its birth on. */
void vexfs_dir_born(struct inode *dir);
/* A name left the cache, or there may be one that never was there. */
void vexfs_dir_doubt(struct inode *dir);
/*
 * Takes a reply with attributes into the caches, before the directory's i_rwsem
 * is released: the names in it are those that it has.
 */
void vexfs_fill(struct dentry *dir, const struct vexfs_list *list);
/*
 * A name was asked for by a call: others of the directory may be next. Under its
 * i_rwsem, with no dentry in lookup.
 */
void vexfs_fill_ahead(struct dentry *dir);

#endif /* VEXFS_LISTING_H */
