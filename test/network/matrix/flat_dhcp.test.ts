import { tellStory } from './story.ts';

tellStory({
  name: 'FlatDHCPManager',
  address: ({ address }) => new RegExp(`TINY: ip eth0 ${address}/25 router 10\\.0\\.0\\.1 lease`),
  has_floating_ips: true,
  apart: false,
  needs: [],
});
