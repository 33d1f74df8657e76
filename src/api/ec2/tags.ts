import { InvalidInput } from '../../common/errors.ts';
import { list, optional, str, struct } from './params.ts';

/** What a new thing is to be tagged with. */
export const tagSpecifications = () =>
  list(struct({ ResourceType: str(), Tag: list(struct({ Key: str(), Value: optional(str({ min: 0 }), '') })) }));

/** Tags are the thing's metadata. @param of the only thing that this request can tag. @throws InvalidInput */
export function tagsOf(
  specifications: readonly { ResourceType: string; Tag: readonly { Key: string; Value: string }[] }[],
  of: 'instance' | 'volume',
): Record<string, string> {
  const tags = new Map<string, string>();
  for (const { ResourceType, Tag } of specifications) {
    if (ResourceType !== of)
      throw new InvalidInput(`TagSpecification: only the ${of} has tags here, not '${ResourceType.slice(0, 80)}'`);
    for (const { Key, Value } of Tag) {
      if (Key === '__proto__') throw new InvalidInput('TagSpecification: no tag is named __proto__ here');
      tags.set(Key, Value);
    }
  }
  return Object.fromEntries(tags);
}
