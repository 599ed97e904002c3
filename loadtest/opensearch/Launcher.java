import org.codelibs.opensearch.runner.OpenSearchRunner;

/** java -cp 'lib/*' Launcher.java FOLDER HTTP_PORT [setting=value ...]: one node, until SIGTERM. */
public class Launcher {
    public static void main(String[] arguments) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                runner.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        runner.onBuild((number, settings) -> {
            settings.put("http.port", arguments[1]);
            settings.put("transport.port", "0");
            settings.put("network.host", "127.0.0.1");
            settings.putList("node.roles", "cluster_manager", "data", "ingest");
            for (int i = 2; i < arguments.length; i++) {
                String[] pair = arguments[i].split("=", 2);
                settings.put(pair[0], pair[1]);
            }
        }).build(OpenSearchRunner.newConfigs().basePath(arguments[0]).numOfNode(1).clusterName("heiwa-test"));
        System.out.println("READY " + arguments[1]);
        System.out.flush();
        Thread.currentThread().join();
    }
}
