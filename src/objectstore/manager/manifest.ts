import { parseStringPromise } from 'xml2js';
import { InvalidInput } from '../../common/errors.ts';

/** What an EC2 bundle's manifest says. Source: Nova 2011.3 nova/image/s3.py _s3_parse_manifest. */
export interface Manifest {
  container_format: 'ami' | 'aki' | 'ari';
  architecture: string | null;
  /** `aki-...`, `ari-...` */
  kernel: string | null;
  ramdisk: string | null;
  /** JSON of [{virtual, device}], or null. */
  mappings: string | null;
  /** Bytes of the image when it is unpacked, or null. */
  size_bytes: number | null;
  /** Hex, encrypted to the cloud. */
  encrypted_key: string;
  encrypted_iv: string;
  /** File names in order. */
  parts: string[];
}

export const MANIFEST_BYTES = 4 * 1024 * 1024;

/** An element as xml2js gives it: text, or lists of children by name. */
type Element = string | { [name: string]: Element[] } | undefined;

const at = (element: Element, ...path: string[]): Element =>
  path.reduce<Element>((e, name) => (typeof e === 'object' ? e[name]?.[0] : undefined), element);
const all = (element: Element, name: string): Element[] => (typeof element === 'object' ? (element[name] ?? []) : []);
const textAt = (element: Element, ...path: string[]): string | null => {
  const found = at(element, ...path);
  return typeof found === 'string' && found.trim() !== '' ? found.trim() : null;
};

/** @throws InvalidInput naming what is missing */
export async function parseManifest(xml: string): Promise<Manifest> {
  let tree: Element;
  try {
    tree = (await parseStringPromise(xml, { ignoreAttrs: true, explicitRoot: false })) as Element;
  } catch (err) {
    throw new InvalidInput('the manifest is not XML', { cause: err });
  }
  const machine = at(tree, 'machine_configuration');
  const image = at(tree, 'image');
  const need = (name: string): string => {
    const found = textAt(image, name);
    if (found === null)
      throw new InvalidInput(`the manifest has no image/${name}: bundle the image with the cloud's certificate`);
    return found;
  };
  const parts = all(at(image, 'parts'), 'part').map((part) => textAt(part, 'filename'));
  if (parts.length === 0 || parts.some((name) => name === null))
    throw new InvalidInput('the manifest has no parts, or one without a filename');
  const [kernel, ramdisk] = [textAt(machine, 'kernel_id'), textAt(machine, 'ramdisk_id')];
  const size = textAt(image, 'size');
  const mappings = all(at(machine, 'block_device_mapping'), 'mapping').map((mapping) => ({
    virtual: textAt(mapping, 'virtual'),
    device: textAt(mapping, 'device'),
  }));
  return {
    container_format: kernel === 'true' ? 'aki' : ramdisk === 'true' ? 'ari' : 'ami',
    architecture: textAt(machine, 'architecture'),
    kernel: kernel === 'true' ? null : kernel,
    ramdisk: ramdisk === 'true' ? null : ramdisk,
    mappings: mappings.length === 0 ? null : JSON.stringify(mappings),
    size_bytes: size !== null && /^\d{1,15}$/.test(size) ? Number(size) : null,
    encrypted_key: need('ec2_encrypted_key'),
    encrypted_iv: need('ec2_encrypted_iv'),
    parts: parts as string[],
  };
}
