import { testStore } from "../testing/store-suite/store-suite.ts";
import { HashStore } from "./hash-store.ts";

testStore("HashStore", { open: async () => new HashStore() });
