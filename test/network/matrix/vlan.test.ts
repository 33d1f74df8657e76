import { OPENVSWITCH, startOpenVswitch } from '../../rigs/openvswitch.ts';
import { tellStory } from './story.ts';

tellStory({
  name: 'VlanManager',
  async prepare({ node1, node2 }, t) {
    for (const host of [node1, node2]) await startOpenVswitch(t, { host });
  },
  address: ({ address }) => new RegExp(`TINY: ip eth0 ${address}/25 router 10\\.0\\.0\\.(1|129) lease`),
  has_floating_ips: true,
  apart: true,
  needs: [...OPENVSWITCH, 'tcpdump'],
});
