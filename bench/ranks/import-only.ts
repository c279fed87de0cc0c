import "bun-c10d";
