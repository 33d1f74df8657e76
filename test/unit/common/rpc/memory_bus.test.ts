import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { busContract } from '../../../bus_contract.ts';

busContract('in-process bus', async () => new MemoryBus());
