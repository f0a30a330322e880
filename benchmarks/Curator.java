import java.util.concurrent.CountDownLatch;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;

/**
 * The part of the benchmarks that Curator plays.
 *
 * watch HOSTS PATH                    as benchmarks/reader.py: a line for every change
 * fill HOSTS PATH ROUNDS              nanoseconds until a CuratorCache is initialized, for every round
 * discover HOSTS PATH NUMBER ROUNDS   nanoseconds for so many registerService, then for each start of a ServiceCache
 */
public class Curator {
    public static void main(String[] arguments) throws Exception {
        try (CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[1], new RetryOneTime(100))) {
            client.start();
            client.blockUntilConnected();
            switch (arguments[0]) {
                case "watch" -> watch(client, arguments[2]);
                case "fill" -> fill(client, arguments[2], Integer.parseInt(arguments[3]));
                case "discover" -> discover(
                    client, arguments[2], Integer.parseInt(arguments[3]), Integer.parseInt(arguments[4]));
                default -> throw new IllegalArgumentException(arguments[0]);
            }
        }
    }

    private static CuratorCache cache(CuratorFramework client, String path, CuratorCacheListener more)
            throws InterruptedException {
        CountDownLatch ready = new CountDownLatch(1);
        CuratorCache cache = CuratorCache.build(client, path);
        cache.listenable().addListener(
            CuratorCacheListener.builder().forInitialized(ready::countDown).build());
        cache.listenable().addListener(more);
        cache.start();
        ready.await();
        return cache;
    }

    private static void watch(CuratorFramework client, String path) throws Exception {
        CuratorCacheListener tell = CuratorCacheListener.builder().forAll((type, before, after) -> {
            long now = System.nanoTime();
            boolean there = after != null;
            if ((there ? after : before).getPath().endsWith("/new:1")) {
                System.out.println(now + " " + (there ? 1 : 0));
            }
        }).build();
        try (CuratorCache cache = cache(client, path, tell)) {
            System.out.println("ready");
            while (System.in.read() >= 0) {
                continue;
            }
        }
    }

    private static void fill(CuratorFramework client, String path, int rounds) throws Exception {
        CuratorCacheListener nothing = CuratorCacheListener.builder().forCreates(node -> { }).build();
        for (int round = 0; round < rounds; round++) {
            long begun = System.nanoTime();
            try (CuratorCache cache = cache(client, path, nothing)) {
                System.out.println(System.nanoTime() - begun);
            }
        }
    }

    private static void discover(CuratorFramework client, String path, int number, int rounds) throws Exception {
        try (ServiceDiscovery<Void> discovery =
                ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath(path).build()) {
            discovery.start();
            long begun = System.nanoTime();
            for (int port = 1; port <= number; port++) {
                discovery.registerService(
                    ServiceInstance.<Void>builder().name("s").address("h").port(port).id("h:" + port).build());
            }
            System.out.println(System.nanoTime() - begun);
            for (int round = 0; round < rounds; round++) {
                begun = System.nanoTime();
                try (ServiceCache<Void> cache = discovery.serviceCacheBuilder().name("s").build()) {
                    cache.start();
                    System.out.println(System.nanoTime() - begun);
                }
            }
        }
    }
}
