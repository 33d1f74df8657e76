export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;

/** What a volume of `size` GiB takes; one of 0 has 100 MiB. Source: Nova 2011.2 nova/volume/driver.py, _sizestr. */
export const sizeBytes = (size: number): number => (size === 0 ? 100 * MIB : size * GIB);

/** For people: `1.5 GB`. */
export const gigabytes = (bytes: number): string => `${(bytes / GIB).toFixed(bytes % GIB === 0 ? 0 : 2)} GB`;
