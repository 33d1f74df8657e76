import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anImage } from '../../../builders.ts';
import { anEc2Api } from './an_ec2_api.ts';

test('an image is made public and its own again, in the words of 2011 and of today', async (t) => {
  const api = await anEc2Api(t);
  const id = { ImageId: `ami-0000000${await anImage(api.db, { is_public: 0 })}` };
  const theirs = { ImageId: `ami-0000000${await anImage(api.db, { project_id: 'gemini', is_public: 1 })}` };
  const shown = async () =>
    (await api.ask('DescribeImageAttribute', { ...id, Attribute: 'launchPermission' })).xml.launchPermission;
  const of_2011 = { Attribute: 'launchPermission', 'UserGroup.1': 'all' };
  const modify = (params: Record<string, string>) => api.ask('ModifyImageAttribute', params);

  assert.equal(await shown(), '');
  assert.equal((await modify({ ...id, ...of_2011, OperationType: 'add' })).xml.return, 'true');
  assert.deepEqual(await shown(), [{ group: 'all' }]);
  assert.equal((await modify({ ...id, 'LaunchPermission.Remove.1.Group': 'all' })).xml.return, 'true');
  assert.equal(await shown(), '');
  assert.equal((await modify({ ...id, 'LaunchPermission.Add.1.UserId': 'bob' })).code, 'UnsupportedOperation');
  assert.equal((await modify({ ...id, Attribute: 'description' })).code, 'InvalidParameterValue');
  assert.equal((await modify(id)).code, 'MissingParameter');
  assert.equal((await modify({ ...theirs, ...of_2011, OperationType: 'remove' })).code, 'UnauthorizedOperation');
});

test('images show their kind, their owner and their state', async (t) => {
  const api = await anEc2Api(t);
  const kernel = await anImage(api.db, { container_format: 'aki', name: 'vmlinuz' });
  await anImage(api.db, { container_format: 'ami', kernel_id: kernel, name: '', location: 'b/x.manifest.xml' });
  await anImage(api.db, { status: 'queued', properties: '{"image_state":"untarring"}' });
  await anImage(api.db, { status: 'error', fault: 'the object is gone', is_public: 0 });
  await anImage(api.db, { project_id: 'gemini', is_public: 0 });
  await anImage(api.db, { project_id: 'gemini' });

  const { xml } = await api.ask('DescribeImages');
  const own = await api.ask('DescribeImages', {
    'Owner.1': 'self',
    'Filter.1.Name': 'image-type',
    'Filter.1.Value.1': 'machine',
  });

  const shown = xml.imagesSet.map((image: Record<string, string>) =>
    ['imageId', 'imageType', 'imageState', 'imageLocation', 'imageOwnerId', 'isPublic']
      .map((name) => image[name])
      .join(' '),
  );
  assert.deepEqual(shown, [
    'ami-00000001 machine available local (tiny) apollo true',
    'aki-00000002 kernel available local (vmlinuz) apollo true',
    'ami-00000003 machine available b/x.manifest.xml apollo true',
    'ami-00000004 machine untarring local (tiny) apollo true',
    'ami-00000005 machine failed local (tiny) apollo false',
    'ami-00000007 machine available local (tiny) gemini true',
  ]);
  assert.equal(xml.imagesSet[2].kernelId, 'aki-00000002');
  assert.equal(xml.imagesSet[4].stateReason.message, 'the object is gone');
  assert.deepEqual(
    own.xml.imagesSet.map(({ imageId }: { imageId: string }) => imageId),
    ['ami-00000001', 'ami-00000003', 'ami-00000004', 'ami-00000005'],
  );
  assert.equal((await api.ask('DescribeImages', { 'ImageId.1': 'ami-00000006' })).code, 'InvalidAMIID.NotFound');
  const executable = async (...words: string[]) => {
    const asked = words.map((word, i) => [`ExecutableBy.${i + 1}`, word] as const);
    const { xml } = await api.ask('DescribeImages', Object.fromEntries(asked));
    return [...xml.imagesSet].map(({ imageId }: { imageId: string }) => Number(`0x${imageId.slice(4)}`));
  };
  assert.deepEqual(await executable('all'), [1, 2, 3, 4, 7]);
  for (const own of ['self', 'apollo']) assert.deepEqual(await executable(own), [1, 2, 3, 4, 5]);
  assert.deepEqual(await executable('self', 'all'), [1, 2, 3, 4, 5, 7]);
  assert.deepEqual(await executable('zeus'), []);
});

test('an image is registered under a location that a bucket has, or not at all', async (t) => {
  const api = await anEc2Api(t);

  assert.equal((await api.ask('RegisterImage')).code, 'MissingParameter');
  assert.equal((await api.ask('RegisterImage', { ImageLocation: 'no-slash' })).code, 'InvalidParameterValue');
  const unheard = await api.ask('RegisterImage', { ImageLocation: 'bucket/key' }); // no object store runs here
  assert.equal(`${unheard.status} ${unheard.code}`, '503 Unavailable');
  const asked = (KernelId: string) => api.ask('RegisterImage', { ImageLocation: 'bucket/key', KernelId });
  assert.equal((await asked('nokernel')).code, 'Unavailable');
  assert.equal((await asked('kernel')).code, 'InvalidParameterValue');
});
