// SPDX-License-Identifier: GPL-2.0-only
/*
 * DSMIL kernel side: hands a device's registers, ports and interrupt to the
 * driver process through UIO, and takes them back when the device goes.
 *
 * What this module guarantees to the rest of the kernel:
 *
 *  - Only memory that a bound device owns can be mapped. A platform region
 *    that overlaps RAM or something another driver claimed is refused.
 *  - One opener at a time: two driver processes would confuse the firmware.
 *  - Removal never waits for the process. Its mappings are taken away and what
 *    it reads there from then on is all ones, as from a PCI device that was
 *    pulled; reads of /dev/uioN end with EIO. The module stays until the last
 *    mapping is gone, because every mapping holds the file and the file holds
 *    the module.
 *
 * Maps: 0 "mmio", the chunks; 1 "doorbell", PCI only. Pages enter a mapping
 * when they are touched, so mapping 360 MiB costs nothing and a process may
 * keep any part of it. What the registers mean is user space's business.
 *
 * UIO keys a mapping by its page offset, so that of map N starts at page N.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/printk.h>
#include <linux/rwsem.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uio_driver.h>
#include <linux/xarray.h>

#include "module_lifecycle.h"
#include "uio_compat.h"

#define UIO_DSMIL_VERSION "0.1.0"

#define DSMIL_REGION_SIZE	(360 * SZ_1M)
#define DSMIL_BAR_DOORBELL	0
#define DSMIL_BAR_MMIO		2

#define DSMIL_MAP_MMIO		0
#define DSMIL_MAP_DOORBELL	1
#define DSMIL_MAP_BITS		3	/* enough for MAX_UIO_MAPS */

#define DSMIL_DEBUG_LOG		BIT(0)
#define DSMIL_DEBUG_OVERLAP	BIT(1)

static unsigned long long base;
module_param(base, ullong, 0444);
MODULE_PARM_DESC(base, "Physical address of a device on the platform bus; 0 (default) for none");

static unsigned long long size = DSMIL_REGION_SIZE;
module_param(size, ullong, 0444);
MODULE_PARM_DESC(size, "Bytes of its memory region, whole pages (default 360 MiB)");

static int irq;
module_param(irq, int, 0444);
MODULE_PARM_DESC(irq, "Its interrupt; 0 (default) for none, then the driver process polls");

static unsigned short ports[2];
static int nr_ports;
module_param_array(ports, ushort, &nr_ports, 0444);
MODULE_PARM_DESC(ports, "Its port region as first,count; not given: none");

static unsigned int debug;
module_param(debug, uint, 0644);
MODULE_PARM_DESC(debug,
		 "1: log operations; 2: bind what overlaps RAM or a claimed resource; 3: both");

#define dsmil_log(dev, fmt, ...)					\
	do {								\
		if (debug & DSMIL_DEBUG_LOG)				\
			dev_info(dev, fmt, ##__VA_ARGS__);		\
	} while (0)

static DEFINE_LIFECYCLE(uio_dsmil_lifecycle);

struct dsmil {
	struct uio_info info;
	struct device *dev;
	struct pci_dev *pdev;		/* NULL on the platform bus */
	u32 id;				/* key in dsmil_devices */
	bool intx;			/* shared line: masked at the device */
	bool irq_masked;		/* by irqcontrol; under UIO's info_lock */
	/*
	 * The inode through which the device is open, NULL when it is not. Set
	 * and cleared under UIO's info_lock; a removal that finds the device
	 * open drops it, because UIO no longer calls release() then.
	 */
	struct inode *inode;
	struct resource *mem_claim;
	struct resource *port_claim;
};

/*
 * Mappings name their device by number and look it up at each fault, so a
 * mapping may outlive the device. Readers are faults, the writer is removal.
 */
static DEFINE_XARRAY_ALLOC1(dsmil_devices);
static DECLARE_RWSEM(dsmil_devices_lock);

/* What mappings of removed devices show: all ones, never written back. */
static struct page *dsmil_gone_page;

static struct dsmil *to_dsmil(struct uio_info *info)
{
	return container_of(info, struct dsmil, info);
}

static vm_fault_t dsmil_fault(struct vm_fault *vmf)
{
	unsigned long key = (unsigned long)vmf->vma->vm_private_data;
	unsigned int map = key & (BIT(DSMIL_MAP_BITS) - 1);
	unsigned long page = vmf->pgoff - map;
	struct dsmil *dsmil;
	unsigned long pfn;
	vm_fault_t ret;

	down_read(&dsmil_devices_lock);
	dsmil = xa_load(&dsmil_devices, key >> DSMIL_MAP_BITS);
	if (!dsmil)
		pfn = page_to_pfn(dsmil_gone_page);
	else if (page < dsmil->info.mem[map].size >> PAGE_SHIFT)
		pfn = (dsmil->info.mem[map].addr >> PAGE_SHIFT) + page;
	else
		pfn = 0;
	ret = pfn ? vmf_insert_pfn(vmf->vma, vmf->address, pfn) : VM_FAULT_SIGBUS;
	up_read(&dsmil_devices_lock);
	return ret;
}

static const struct vm_operations_struct dsmil_vm_ops = {
	.fault = dsmil_fault,
};

static void *dsmil_map_key(const struct dsmil *dsmil, unsigned long map)
{
	return (void *)((unsigned long)dsmil->id << DSMIL_MAP_BITS | map);
}

/* UIO has checked that the map exists and that the length fits. */
static int dsmil_mmap(struct uio_info *info, compat_uio_mapping_t *mapping)
{
	struct dsmil *dsmil = to_dsmil(info);
	unsigned long map = compat_uio_mapping_pgoff(mapping);

	if (!compat_uio_mapping_shared(mapping))
		return -EINVAL;
	compat_uio_mapping_set(mapping, &dsmil_vm_ops, dsmil_map_key(dsmil, map));
	dsmil_log(dsmil->dev, "map %lu, %lu bytes\n", map, compat_uio_mapping_length(mapping));
	return 0;
}

/* open, release and irqcontrol run under UIO's info_lock. */

static int dsmil_open(struct uio_info *info, struct inode *inode)
{
	struct dsmil *dsmil = to_dsmil(info);

	if (dsmil->inode)
		return -EBUSY;
	dsmil->inode = igrab(inode);
	if (!dsmil->inode)
		return -ENODEV;
	dsmil_log(dsmil->dev, "opened\n");
	return 0;
}

static int dsmil_release(struct uio_info *info, struct inode *inode)
{
	struct dsmil *dsmil = to_dsmil(info);

	iput(dsmil->inode);
	dsmil->inode = NULL;
	dsmil_log(dsmil->dev, "released\n");
	return 0;
}

static irqreturn_t dsmil_handler(int number, struct uio_info *info)
{
	struct dsmil *dsmil = to_dsmil(info);

	/* A shared line stays masked at the device until irqcontrol(1). */
	if (dsmil->intx && !pci_check_and_mask_intx(dsmil->pdev))
		return IRQ_NONE;
	return IRQ_HANDLED;
}

static int dsmil_irqcontrol(struct uio_info *info, s32 on)
{
	struct dsmil *dsmil = to_dsmil(info);

	if (dsmil->intx) {
		if (on)
			pci_check_and_unmask_intx(dsmil->pdev);
		else
			pci_intx(dsmil->pdev, 0);
	} else if (on && dsmil->irq_masked) {
		enable_irq(info->irq);
	} else if (!on && !dsmil->irq_masked) {
		disable_irq(info->irq);
	}
	dsmil->irq_masked = !on;
	return 0;
}

/* Everything that both buses have in common; info's maps and irq are set. */
static int dsmil_register(struct dsmil *dsmil, struct device *dev, const char *name)
{
	int err;

	dsmil->dev = dev;
	dsmil->info.name = name;
	dsmil->info.version = UIO_DSMIL_VERSION;
	dsmil->info.open = dsmil_open;
	dsmil->info.release = dsmil_release;
	dsmil->info.compat_uio_mmap = dsmil_mmap;
	dsmil->info.irqcontrol = dsmil_irqcontrol;
	if (dsmil->info.irq != UIO_IRQ_NONE)
		dsmil->info.handler = dsmil_handler;

	down_write(&dsmil_devices_lock);
	err = xa_alloc(&dsmil_devices, &dsmil->id, dsmil, xa_limit_31b, GFP_KERNEL);
	up_write(&dsmil_devices_lock);
	if (err)
		return err;

	err = uio_register_device(dev, &dsmil->info);
	if (err) {
		down_write(&dsmil_devices_lock);
		xa_erase(&dsmil_devices, dsmil->id);
		up_write(&dsmil_devices_lock);
		return err;
	}
	dsmil_log(dev, "bound as %s, irq %ld\n", name, dsmil->info.irq);
	return 0;
}

/*
 * The process may have the device open and mapped, may be inside a read of it,
 * and may be touching pages right now:
 *
 *  1. From here on every fault finds the device gone.
 *  2. UIO ends reads, frees the interrupt, and no longer calls into us.
 *  3. Pages that are in mappings are taken out; the next touch faults, see 1.
 *
 * After that nothing reaches the device and its memory may be released.
 */
static void dsmil_unregister(struct dsmil *dsmil)
{
	down_write(&dsmil_devices_lock);
	xa_erase(&dsmil_devices, dsmil->id);
	up_write(&dsmil_devices_lock);

	/* A masked interrupt would stay masked for the next driver of the line. */
	if (dsmil->info.irq != UIO_IRQ_NONE && !dsmil->intx && dsmil->irq_masked)
		enable_irq(dsmil->info.irq);
	uio_unregister_device(&dsmil->info);

	if (dsmil->inode) {
		unmap_mapping_range(dsmil->inode->i_mapping, 0, 0, 1);
		iput(dsmil->inode);
		dsmil->inode = NULL;
	}
	dsmil_log(dsmil->dev, "unbound\n");
}

/* PCI */

static int dsmil_pci_maps(struct dsmil *dsmil, struct pci_dev *pdev)
{
	struct uio_mem *mmio = &dsmil->info.mem[DSMIL_MAP_MMIO];
	struct uio_mem *doorbell = &dsmil->info.mem[DSMIL_MAP_DOORBELL];
	resource_size_t start = pci_resource_start(pdev, DSMIL_BAR_DOORBELL);

	if (!(pci_resource_flags(pdev, DSMIL_BAR_MMIO) & IORESOURCE_MEM) ||
	    pci_resource_len(pdev, DSMIL_BAR_MMIO) < DSMIL_REGION_SIZE) {
		dev_err(&pdev->dev, "BAR %d is no memory of 360 MiB\n", DSMIL_BAR_MMIO);
		return -ENODEV;
	}
	mmio->name = "mmio";
	mmio->addr = pci_resource_start(pdev, DSMIL_BAR_MMIO);
	mmio->size = DSMIL_REGION_SIZE;
	mmio->memtype = UIO_MEM_PHYS;

	if (!(pci_resource_flags(pdev, DSMIL_BAR_DOORBELL) & IORESOURCE_MEM))
		return 0;
	/* Whatever else is in its page would be mapped too: only if it starts one. */
	if (!PAGE_ALIGNED(start)) {
		dev_warn(&pdev->dev, "BAR %d does not start a page: no doorbell\n",
			 DSMIL_BAR_DOORBELL);
		return 0;
	}
	doorbell->name = "doorbell";
	doorbell->addr = start;
	doorbell->size = PAGE_SIZE;
	doorbell->memtype = UIO_MEM_PHYS;
	return 0;
}

/* A device that has no interrupt, such as ivshmem-plain, is polled. */
static int dsmil_pci_irq(struct dsmil *dsmil, struct pci_dev *pdev)
{
	int vectors;

	dsmil->info.irq = UIO_IRQ_NONE;
	vectors = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX | PCI_IRQ_MSI);
	if (vectors == 1) {
		dsmil->info.irq = pci_irq_vector(pdev, 0);
		return 0;
	}
	if (!pdev->irq || !pdev->pin)
		return 0;
	if (!pci_intx_mask_supported(pdev)) {
		dev_warn(&pdev->dev, "its shared interrupt cannot be masked: not used\n");
		return 0;
	}
	vectors = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_INTX);
	if (vectors != 1)
		return vectors;
	dsmil->info.irq = pci_irq_vector(pdev, 0);
	dsmil->info.irq_flags = IRQF_SHARED;
	dsmil->intx = true;
	return 0;
}

static int dsmil_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct dsmil *dsmil;
	int err;

	dsmil = kzalloc(sizeof(*dsmil), GFP_KERNEL);
	if (!dsmil)
		return -ENOMEM;
	dsmil->pdev = pdev;

	err = pci_enable_device(pdev);
	if (err)
		goto free;
	err = pci_request_regions(pdev, KBUILD_MODNAME);
	if (err)
		goto disable;
	err = dsmil_pci_maps(dsmil, pdev);
	if (err)
		goto regions;
	/* Message interrupts are writes to memory by the device. */
	pci_set_master(pdev);
	err = dsmil_pci_irq(dsmil, pdev);
	if (err)
		goto master;
	err = dsmil_register(dsmil, &pdev->dev, "dsmil-84dev");
	if (err)
		goto vectors;
	pci_set_drvdata(pdev, dsmil);
	return 0;

vectors:
	pci_free_irq_vectors(pdev);
master:
	pci_clear_master(pdev);
regions:
	pci_release_regions(pdev);
disable:
	pci_disable_device(pdev);
free:
	kfree(dsmil);
	return err;
}

static void dsmil_pci_remove(struct pci_dev *pdev)
{
	struct dsmil *dsmil = pci_get_drvdata(pdev);

	dsmil_unregister(dsmil);
	pci_free_irq_vectors(pdev);
	pci_clear_master(pdev);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
	kfree(dsmil);
}

/*
 * QEMU's ivshmem, behind which the simulator plays the firmware. No
 * MODULE_DEVICE_TABLE: other people's shared memory must not load this module.
 */
static const struct pci_device_id dsmil_pci_ids[] = {
	{ PCI_DEVICE(0x1af4, 0x1110) },
	{ }
};

static struct pci_driver dsmil_pci_driver = {
	.name = KBUILD_MODNAME,
	.id_table = dsmil_pci_ids,
	.probe = dsmil_pci_probe,
	.remove = dsmil_pci_remove,
};

/* Platform */

static int dsmil_claim_memory(struct dsmil *dsmil, struct device *dev, struct resource *res)
{
	bool ram = region_intersects(res->start, resource_size(res), IORESOURCE_SYSTEM_RAM,
				     IORES_DESC_NONE) != REGION_DISJOINT;

	if (!ram)
		dsmil->mem_claim = request_mem_region(res->start, resource_size(res),
						      KBUILD_MODNAME);
	if (dsmil->mem_claim)
		return 0;
	dev_err(dev, "%pR overlaps %s\n", res, ram ? "RAM" : "what another driver claimed");
	return debug & DSMIL_DEBUG_OVERLAP ? 0 : -EBUSY;
}

static int dsmil_claim_ports(struct dsmil *dsmil, struct device *dev, struct resource *res)
{
	struct uio_port *port = &dsmil->info.port[0];

	dsmil->port_claim = request_region(res->start, resource_size(res), KBUILD_MODNAME);
	if (!dsmil->port_claim) {
		dev_err(dev, "%pR overlaps what another driver claimed\n", res);
		if (!(debug & DSMIL_DEBUG_OVERLAP))
			return -EBUSY;
	}
	port->name = "ports";
	port->start = res->start;
	port->size = resource_size(res);
	port->porttype = UIO_PORT_X86;
	return 0;
}

static void dsmil_release_claims(struct dsmil *dsmil)
{
	if (dsmil->port_claim)
		release_region(dsmil->port_claim->start, resource_size(dsmil->port_claim));
	if (dsmil->mem_claim)
		release_mem_region(dsmil->mem_claim->start, resource_size(dsmil->mem_claim));
}

static int dsmil_platform_probe(struct platform_device *pdev)
{
	struct resource *mem = platform_get_resource(pdev, IORESOURCE_MEM, 0);
	struct resource *io = platform_get_resource(pdev, IORESOURCE_IO, 0);
	struct uio_mem *mmio;
	struct dsmil *dsmil;
	int err;

	if (!mem || !PAGE_ALIGNED(mem->start) || !PAGE_ALIGNED(resource_size(mem))) {
		dev_err(&pdev->dev, "its memory is not whole pages\n");
		return -EINVAL;
	}
	dsmil = kzalloc(sizeof(*dsmil), GFP_KERNEL);
	if (!dsmil)
		return -ENOMEM;

	err = dsmil_claim_memory(dsmil, &pdev->dev, mem);
	if (err)
		goto free;
	if (io) {
		err = dsmil_claim_ports(dsmil, &pdev->dev, io);
		if (err)
			goto claims;
	}
	mmio = &dsmil->info.mem[DSMIL_MAP_MMIO];
	mmio->name = "mmio";
	mmio->addr = mem->start;
	mmio->size = resource_size(mem);
	mmio->memtype = UIO_MEM_PHYS;

	err = platform_get_irq_optional(pdev, 0);
	if (err < 0 && err != -ENXIO)
		goto claims;
	dsmil->info.irq = err > 0 ? err : UIO_IRQ_NONE;

	err = dsmil_register(dsmil, &pdev->dev, platform_get_device_id(pdev)->name);
	if (err)
		goto claims;
	platform_set_drvdata(pdev, dsmil);
	return 0;

claims:
	dsmil_release_claims(dsmil);
free:
	kfree(dsmil);
	return err;
}

static void dsmil_platform_remove(struct platform_device *pdev)
{
	struct dsmil *dsmil = platform_get_drvdata(pdev);

	dsmil_unregister(dsmil);
	dsmil_release_claims(dsmil);
	kfree(dsmil);
}

/* The names of the drivers before this one: 7 groups of 12 devices, and 6. */
static const struct platform_device_id dsmil_platform_ids[] = {
	{ .name = "dsmil-84dev" },
	{ .name = "dsmil-72dev" },
	{ }
};

static struct platform_driver dsmil_platform_driver = {
	.driver.name = KBUILD_MODNAME,
	.id_table = dsmil_platform_ids,
	.probe = dsmil_platform_probe,
	.remove = dsmil_platform_remove,
};

/* The device that the parameters describe, NULL when they describe none. */
static struct platform_device *dsmil_described;

static int dsmil_describe(void)
{
	struct resource resources[3] = { DEFINE_RES_MEM(base, size) };
	struct platform_device_info description = {
		.name = "dsmil-84dev",
		.id = PLATFORM_DEVID_NONE,
		.res = resources,
		.num_res = 1,
	};

	if (!base)
		return 0;
	if (!size || base + size < base || irq < 0 || nr_ports == 1 || (nr_ports && !ports[1])) {
		pr_err("base, size, irq and ports describe no device\n");
		return -EINVAL;
	}
	if (irq)
		resources[description.num_res++] = DEFINE_RES_IRQ(irq);
	if (nr_ports)
		resources[description.num_res++] = DEFINE_RES_IO(ports[0], ports[1]);
	dsmil_described = platform_device_register_full(&description);
	if (IS_ERR(dsmil_described))
		return PTR_ERR(dsmil_described);

	/* Who names a device wants it: a module without it would look loaded and serve nothing. */
	if (!platform_get_drvdata(dsmil_described)) {
		platform_device_unregister(dsmil_described);
		pr_err("the device at %#llx cannot be bound\n", base);
		return -EBUSY;
	}
	return 0;
}

static int __init uio_dsmil_init(void)
{
	int err;

	err = lifecycle_begin_init(&uio_dsmil_lifecycle);
	if (err)
		return err;

	dsmil_gone_page = alloc_page(GFP_KERNEL);
	if (!dsmil_gone_page) {
		err = -ENOMEM;
		goto lifecycle;
	}
	memset(page_address(dsmil_gone_page), 0xff, PAGE_SIZE);
	err = platform_driver_register(&dsmil_platform_driver);
	if (err)
		goto page;
	err = dsmil_describe();
	if (err)
		goto platform;
	err = pci_register_driver(&dsmil_pci_driver);
	if (err)
		goto described;

	lifecycle_finish_init(&uio_dsmil_lifecycle);
	pr_info(UIO_DSMIL_VERSION " loaded\n");
	return 0;

described:
	if (dsmil_described)
		platform_device_unregister(dsmil_described);
platform:
	platform_driver_unregister(&dsmil_platform_driver);
page:
	__free_page(dsmil_gone_page);
lifecycle:
	lifecycle_unpublish(&uio_dsmil_lifecycle);
	lifecycle_abort_init(&uio_dsmil_lifecycle);
	return err;
}

static void __exit uio_dsmil_exit(void)
{
	lifecycle_begin_exit(&uio_dsmil_lifecycle);
	pci_unregister_driver(&dsmil_pci_driver);
	if (dsmil_described)
		platform_device_unregister(dsmil_described);
	platform_driver_unregister(&dsmil_platform_driver);
	__free_page(dsmil_gone_page);
	lifecycle_unpublish(&uio_dsmil_lifecycle);
	lifecycle_end_exit(&uio_dsmil_lifecycle);
	pr_info(UIO_DSMIL_VERSION " unloaded\n");
}

module_init(uio_dsmil_init);
module_exit(uio_dsmil_exit);

MODULE_AUTHOR("The vexfs-ublk authors");
MODULE_DESCRIPTION("DSMIL: kernel side of the user-space driver");
MODULE_VERSION(UIO_DSMIL_VERSION);
MODULE_LICENSE("GPL");
MODULE_ALIAS("dsmil-84dev");
MODULE_ALIAS("dsmil-72dev");
