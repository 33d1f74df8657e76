import { MissingParameter } from '../../common/errors.ts';
import { action } from './deps.ts';
import { idOf } from './images.ts';
import { imageId, list, optional, struct, word } from './params.ts';

const Attribute = word(['launchPermission']);

export const describeImageAttribute = action('DescribeImageAttribute', {
  about: 'Who may launch an image: the group `all` when it is public, else its project alone',
  params: { ImageId: imageId(), Attribute },
  roles: 'all',
  async run(ctx, { ImageId }, { images }) {
    const image = await images.show(ctx, ImageId);
    return {
      imageId: idOf(image),
      launchPermission: image.is_public === 1 ? [{ group: 'all' }] : [],
    };
  },
});

const groups = list(struct({ Group: word(['all']) }));

/** In 2011's form, by OperationType, and in today's, by LaunchPermission. */
export const modifyImageAttribute = action('ModifyImageAttribute', {
  about: 'Makes an image of the project public (`add`), or its own again (`remove`)',
  params: {
    ImageId: imageId(),
    Attribute: optional(Attribute),
    OperationType: optional(word(['add', 'remove'])),
    UserGroup: list(word(['all'])),
    LaunchPermission: optional(struct({ Add: groups, Remove: groups })),
  },
  not_offered: ['UserId', 'LaunchPermission.Add.N.UserId', 'LaunchPermission.Remove.N.UserId'],
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, { ImageId, OperationType, UserGroup, LaunchPermission }, { images }) {
    const { Add = [], Remove = [] } = LaunchPermission ?? {};
    const add = Add.length > 0 || (OperationType === 'add' && UserGroup.length > 0);
    const remove = Remove.length > 0 || (OperationType === 'remove' && UserGroup.length > 0);
    if (add === remove)
      throw new MissingParameter('say one: LaunchPermission.Add.1.Group=all, or LaunchPermission.Remove.1.Group=all');
    await images.setPublic(ctx, ImageId, add);
    return { return: true };
  },
});
